"""Run independent tasks on all CPU cores: one thread each, in which torch computes on one core."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

from advunlearn import interruption

T = TypeVar("T")

_worker = threading.local()  # in a worker: the event that its pool sets when nobody wants the results any more


class Halted(Exception):
    """Another task failed: nobody wants this one's result any more."""


def halt_point() -> None:
    """Raise `Halted` in a worker whose result is not wanted any more; long tasks call it at every step.

    Raises:
        Interrupted: if the process has been asked to end.
    """
    interruption.halt_point()
    halt: threading.Event | None = getattr(_worker, "halt", None)
    if halt is not None and halt.is_set():
        raise Halted


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Leave torch with the number of CPU threads that it had, whatever is set inside."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep torch to one CPU thread inside; a thread that starts inside keeps to it as well."""
    with kept_threads():
        torch.set_num_threads(1)
        yield


def run_tasks(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the results as they are ready, from so many threads at once; an error in one task ends the others.

    Results do not depend on `workers`: torch computes on one core even if there is only one.
    """
    with one_core():
        if workers == 1:
            yield from (task() for task in tasks)
            return
        halt = threading.Event()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)  # an operation of a small network takes less than the default, 5 ms
        pool = ThreadPoolExecutor(workers, initializer=lambda: setattr(_worker, "halt", halt))
        try:
            for future in as_completed([pool.submit(task) for task in tasks]):
                yield future.result()
        except BaseException:
            halt.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            sys.setswitchinterval(interval)
