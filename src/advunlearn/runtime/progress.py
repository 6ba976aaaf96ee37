"""Progress bars: on standard error, and only in a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from advunlearn.runtime.terminal import asked

T = TypeVar("T")

_silent = False


def silence() -> None:
    """Show no bars in this process from now on, because its parent shows them.

    The lock of tqdm is replaced, because another thread may have held it at the fork.
    """
    global _silent
    _silent = True
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0


def progress(items: Iterable[T], label: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Return `items` with a progress bar, which is not shown in a worker or without a terminal."""
    watched = _is_terminal() and threading.current_thread() is threading.main_thread() and not (_silent or asked.quiet)
    return tqdm(items, desc=label, total=total, initial=initial, leave=False, disable=not watched)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is no standard error, or it is closed
        return False
