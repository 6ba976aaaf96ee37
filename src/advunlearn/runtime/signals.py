"""End cleanly when the system asks: a signal is recorded, and long work checks for it at every step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGXCPU)
# These may be sent more than once for one request: by Slurm; by a closing shell and terminal; every second.
_REPEATED = (signal.SIGUSR1, signal.SIGHUP, signal.SIGXCPU)
_asked: list[int] = []  # the signals that were received
worker = threading.local()  # in a worker: `halt`, the event that its pool sets if its result is not needed, or None


class Interrupted(KeyboardInterrupt):
    """The system asked this process to end; its work is kept, and another process can resume it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        """Return how another process creates it; see `pickle`."""
        return Interrupted, (self.number,)


class Halted(Exception):
    """Another task failed: the result of this one is not needed."""


@contextmanager
def heed_signals() -> Iterator[None]:
    """Inside, let the signals that ask a process to end do so at its next `halt_point`.

    These are Ctrl-C, SIGTERM, SIGUSR1, a closed terminal (SIGHUP, unless it is ignored, as under `nohup`) and the end
    of the allowed CPU time (SIGXCPU). A second Ctrl-C or SIGTERM ends it at once.
    """
    before = {number: signal.signal(number, _note) for number in heeded()}
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def heeded() -> list[signal.Signals]:
    """Return the signals that this process reacts to: all but SIGHUP under nohup."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]


def _note(number: int, frame: Any) -> None:
    if _asked and number not in _REPEATED:
        raise Interrupted(number)
    _asked.append(number)


def ask(number: int, frame: Any = None) -> None:
    """Ask this process to end at its next `halt_point`; a signal handler in which a second signal has no effect."""
    _asked.append(number)


def is_asked() -> bool:
    """Return whether the process has been asked to end."""
    return bool(_asked)


def halt_point() -> None:
    """End this process or worker if it was asked to; long work calls this function at every step.

    Raises:
        Interrupted: if the process has been asked to end.
        Halted: in a worker whose result is not needed any more.
    """
    if _asked:
        raise Interrupted(_asked[0])
    halt: threading.Event | None = getattr(worker, "halt", None)
    if halt is not None and halt.is_set():
        raise Halted
