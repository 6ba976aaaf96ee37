"""Run tasks on several devices: each in a process of its own, started anew, as one that has used CUDA cannot be forked.

A worker keeps its device until the last task is done: it imports the libraries and copies the data once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

import torch

from advunlearn.runtime import signals
from advunlearn.runtime.memory import DeviceFull
from advunlearn.runtime.seeding import clean_state
from advunlearn.runtime.settings import Settings
from advunlearn.runtime.shared import Shared, Unsendable
from advunlearn.runtime.threads import one_thread
from advunlearn.runtime.workers import GRACE, LOOK, become_worker, death_of_worker, outcome, result_of

logger = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

# What a worker's Python is told. First, the user's own modules are found as they are here.
_PATH = "import json, os, sys; sys.path[:] = json.loads(sys.argv[1])"
_SERVE = "from advunlearn.runtime.on_devices import serve; serve(sys.argv[2], *map(int, sys.argv[3:]))"
_LEAVE = "sys.stdout.flush(); os._exit(0)"  # to take torch apart takes a second


def run_on_devices(
    function: Callable[[A], T], arguments: Iterable[A], settings: Settings, devices: Sequence[str]
) -> Generator[T, None, None]:
    """Yield the function's values as they are ready; an error of one ends the others.

    Each worker gets a copy of the function and of what it refers to, with `settings` and all tensors for its device;
    large arrays are in memory once. If the memory of a device is not enough, the other devices take over its task.

    Args:
        function: without effects in this process; its values and arguments are pickled.
        arguments: one per task.
        settings: of this process.
        devices: such as `cuda:1`, one per worker.

    Raises:
        Unsendable: before any result, if the function cannot be sent to another process.
        ShortOfMemory: if the system has killed a worker.
        DeviceFull: of the last device on which a task failed for that reason.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # the first device is that of this process as well
    level = logging.getLogger("advunlearn").getEffectiveLevel()
    workers: list[_Worker] = []
    try:
        _start(workers, (function, settings, level), devices)
        yield from _share_out(list(arguments), workers)
    finally:
        _end(workers)


def _start(workers: list[_Worker], work: Any, devices: Sequence[str]) -> None:
    """Add a worker for each device to the list; what they share is theirs alone afterwards."""
    with Shared() as shared:
        packed = [shared.packed(work, device) for device in devices]
        for device, each in zip(devices, packed, strict=True):
            workers.append(_Worker(device, each, shared.descriptors))


def _share_out(waiting: list[Any], workers: Sequence[_Worker]) -> Generator[Any, None, None]:
    """Give each worker a task at a time; yield the results."""
    idle, busy = list(workers), dict[Connection, _Worker]()
    while waiting or busy:
        while waiting and idle:
            worker = idle.pop(0)
            worker.begin(waiting.pop(0))
            busy[worker.connection] = worker
        signals.halt_point()
        for ready in wait(list(busy), LOOK):
            worker = busy[cast("Connection", ready)]
            message = worker.message(len(workers))
            if isinstance(message, logging.LogRecord):
                _log(message)
                continue
            del busy[worker.connection]
            try:
                result = result_of(message, len(workers))
            except DeviceFull as error:
                if not busy and not idle:
                    raise
                logger.warning("%s; the other devices do the rest, without %s", error, worker.device)
                waiting.append(worker.task)
                worker.connection.close()
            else:
                idle.append(worker)
                yield result


def _log(record: logging.LogRecord) -> None:
    """Log what a worker has logged, where this process logs it."""
    target = logging.getLogger(record.name)
    if target.isEnabledFor(record.levelno):
        target.handle(record)


class _Worker:
    """A process that does tasks on a device.

    Attributes:
        device: its name.
        task: the argument of the task that it does, or did last.
        connection, process: of the process.
    """

    def __init__(self, device: str, packed: bytes, files: Sequence[int]) -> None:
        self.device = device
        self.task: Any = None
        self.connection, theirs = multiprocessing.Pipe()
        with tempfile.TemporaryFile() as work, theirs:
            work.write(packed)
            work.flush()
            inherited = theirs.fileno(), work.fileno()
            path = [each for each in sys.path if isinstance(each, str)]  # others, Python ignores as well
            words = [json.dumps(path), device, *map(str, (*inherited, os.getpid()))]
            # A signal must not end it before it has its own handlers.
            signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", f"{_PATH}\n{_SERVE}\n{_LEAVE}", *words],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[*inherited, *files],
                )
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.SIGNALS)

    def begin(self, task: Any) -> None:
        """Send a task; if the process has ended, `message` tells."""
        self.task = task
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def message(self, workers: int) -> Any:
        """Return the next message of one of so many workers: a log record, or the outcome of its task.

        Raises:
            Unsendable: if it could not load its work.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            raise death_of_worker(self.process.wait(), workers) from None
        if isinstance(message, Unsendable):
            raise message
        return message


def _end(workers: Sequence[_Worker]) -> None:
    """Ask workers to end, those that work at their next step, and end those that do not."""
    for worker in workers:
        worker.process.terminate()
        worker.connection.close()  # for which an idle one waits
    deadline = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


class _Line(QueueHandler):
    """A worker's end of the connection, over which it also sends what is logged."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(cast("Any", connection))
        self.sending = threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message; nobody needs it if the other end is closed."""
        with self.sending, contextlib.suppress(OSError):
            cast("Connection", self.queue).send(message)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record."""
        self.send(record)


def serve(device: str, connection: int, work: int, parent: int) -> None:
    """Do tasks on a device until the parent closes the connection; the numbers are those of `_Worker`."""
    if not become_worker(parent):
        return
    line = _Line(Connection(connection))
    logging.getLogger().addHandler(line)
    try:
        if device.startswith("cuda"):
            torch.cuda.set_device(device)  # before anything is loaded onto it
        with os.fdopen(work, "rb") as file:
            file.seek(0)
            function, settings, level = pickle.load(file)
    except torch.OutOfMemoryError:
        line.send((None, DeviceFull(f"{device}: its memory is not enough for the data"), ""))
        return
    except Exception as error:  # a module of the user may raise any
        line.send(Unsendable(" ".join(f"{type(error).__name__}: {error}".split())))
        return
    logging.getLogger("advunlearn").setLevel(level)
    with clean_state(settings.seed), settings.switches(), one_thread():
        while not signals.is_asked():
            try:
                task = cast("Connection", line.queue).recv()
            except (EOFError, OSError):
                return
            line.send(outcome(partial(function, task)))
