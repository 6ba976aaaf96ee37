"""Run independent tasks on all CPU cores: one thread each, in which torch computes on one core."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

T = TypeVar("T")

_halt = threading.Event()


class Halted(Exception):
    """Another task failed, or the process is asked to end: nobody wants this one's result any more."""


def halt_point() -> None:
    """Raise `Halted` in a worker whose result is not wanted any more; long tasks call it at every step."""
    if _halt.is_set() and threading.current_thread() is not threading.main_thread():
        raise Halted


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep torch to one CPU thread inside; a thread that starts inside keeps to it as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_tasks(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the results as they are ready, from so many threads at once; an error in one task ends the others.

    Results do not depend on `workers`: torch computes on one core even if there is only one.
    """
    with one_core():
        if workers == 1:
            yield from (task() for task in tasks)
            return
        pool = ThreadPoolExecutor(workers)
        try:
            for future in as_completed([pool.submit(task) for task in tasks]):
                yield future.result()
        except BaseException:
            _halt.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            _halt.clear()
