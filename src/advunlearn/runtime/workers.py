"""Run independent tasks on all CPU cores: each in a process of its own, in which torch computes on one core."""

from __future__ import annotations

import ctypes
import errno
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

import torch

from advunlearn.runtime import signals
from advunlearn.runtime.memory import ShortOfMemory
from advunlearn.runtime.profiling import in_workers
from advunlearn.runtime.progress import silence
from advunlearn.runtime.threads import one_thread

logger = logging.getLogger(__name__)

T = TypeVar("T")


GRACE = 10.0  # seconds that a worker process has to end by itself


LOOK = 0.2  # seconds between checks whether this process is asked to end


_PR_SET_PDEATHSIG = 1


class _InWorker(Exception):
    """The traceback of a worker's error, as text."""


def forks() -> bool:
    """Return whether workers are processes; they are threads where a forked process cannot train.

    With an accelerator in the machine, torch's backward pass starts threads even on the CPU and then fails in a forked
    process; a daemon of `multiprocessing` cannot have children; and some libraries of macOS do not support a fork.
    """
    daemon = multiprocessing.current_process().daemon
    return sys.platform == "linux" and not torch.accelerator.is_available() and not daemon


def run_tasks(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    """Yield the results as they are ready, from so many workers at once; an error in one task ends the others.

    Results are pickled. They do not depend on `workers`: torch computes on one core even if there is only one. A worker
    has no workers itself.
    """
    with one_thread():
        if workers == 1 or hasattr(signals.worker, "halt"):
            yield from (task() for task in tasks)
        else:
            with in_workers(workers):
                yield from (_in_processes if forks() else _in_threads)(tasks, workers)


def _in_processes(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    waiting, running = list(tasks), dict[Connection, BaseProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                try:
                    _start(waiting[0], running)
                except OSError as error:
                    if not running or error.errno not in (errno.EAGAIN, errno.ENOMEM):
                        raise
                    workers = len(running)  # the system allows no others
                    logger.warning("no more than %d worker processes can be started (%s)", workers, error.strerror)
                else:
                    waiting.pop(0)
            signals.halt_point()
            for ready in wait(list(running), LOOK):
                connection = cast("Connection", ready)
                result = _result(connection, running[connection], workers)
                del running[connection]
                yield result
    finally:
        _end(list(running.values()))


def _start(task: Callable[[], Any], running: dict[Connection, BaseProcess]) -> None:
    """Fork a worker and add it to those that run: nothing is imported or copied, so it starts at once."""
    reading, writing = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_work, args=(task, writing, os.getpid()))
    # A signal before the worker has its own handlers would unwind a copy of the parent's stack.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads: a worker uses none of them
            process.start()
        running[reading] = process  # before a signal that has waited is an exception: somebody has to end the worker
    finally:
        writing.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)


def _work(task: Callable[[], Any], writing: Connection, parent: int) -> None:
    """Do the task in a worker and send what came of it."""
    if become_worker(parent):
        writing.send(outcome(task))


Outcome = tuple[Any, BaseException | None, str]
"""Of a task: its result, or its error and the traceback as text."""


def become_worker(parent: int) -> bool:
    """Make this process, which was started with signals blocked, a worker; False if its parent has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a worker does not outlive its parent
    if os.getppid() != parent:
        return False
    signals.worker.halt = None
    for number in signals.heeded():
        signal.signal(number, signals.ask)
    # A terminal sends Ctrl-C to all processes; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)
    silence()
    return True


def outcome(task: Callable[[], Any]) -> Outcome:
    """Do a task; what is returned can be pickled if the result can."""
    try:
        return task(), None, ""
    except BaseException as error:
        return None, _picklable(error), traceback.format_exc()


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _result(connection: Connection, process: BaseProcess, workers: int) -> Any:
    try:
        received = connection.recv()
    except (EOFError, OSError):  # before its result, and in the middle of it
        process.join()
        raise death_of_worker(process.exitcode, workers) from None
    process.join()
    connection.close()
    return result_of(received, workers)


def death_of_worker(status: int | None, workers: int) -> Exception:
    """Return the error for one of so many workers that ended without a result, with this exit status."""
    if status == -signal.SIGKILL:
        return ShortOfMemory(workers, killed=True)
    return RuntimeError(f"a worker process ended with exit code {status}")


def result_of(received: Outcome, workers: int) -> Any:
    """Return the result of a task of one of so many workers, or raise its error."""
    result, error, trace = received
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        raise ShortOfMemory(workers, killed=False) from _InWorker(trace)
    if error is not None:
        raise error from _InWorker(trace)
    return result


def _end(processes: list[BaseProcess]) -> None:
    """Ask workers to end at their next step, and end those that do not."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _in_threads(tasks: Iterable[Callable[[], T]], workers: int) -> Generator[T, None, None]:
    halt = threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # an operation of a small network takes less than the default, 5 ms
    pool = ThreadPoolExecutor(workers, initializer=lambda: setattr(signals.worker, "halt", halt))
    try:
        for future in as_completed([pool.submit(task) for task in tasks]):
            yield future.result()
    except BaseException:
        halt.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        sys.setswitchinterval(interval)
