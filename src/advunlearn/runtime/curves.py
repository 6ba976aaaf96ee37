"""Curves of a training while it runs: what computes them reports here, and who wants them listens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping

Listener = Callable[[str, int, Mapping[str, float]], None]

_listeners: list[tuple[int, Listener]] = []


def report(curve: str, step: int, values: Mapping[str, float]) -> None:
    """Pass the values of a curve at a step to all listeners of this process.

    A process that was forked has none: a tracker belongs to the process that opened it.
    """
    for process, listener in _listeners:
        if process == os.getpid():
            listener(curve, step, values)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Report nothing inside: for trainings that are measured, and for those of models besides the three of a run."""
    before = _listeners[:]
    _listeners.clear()
    try:
        yield
    finally:
        _listeners[:] = before


@contextlib.contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Call the listener with everything that is reported inside."""
    entry = os.getpid(), listener
    _listeners.append(entry)
    try:
        yield
    finally:
        _listeners.remove(entry)
