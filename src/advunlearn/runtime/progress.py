"""Progress bars: on standard error, and only where a person watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_silent = False


def silence() -> None:
    """Show no bars in this process from now on: it has been forked from one that shows them.

    Its lock is replaced, which another thread may have held at the fork.
    """
    global _silent
    _silent = True
    tqdm.set_lock(threading.RLock())
    tqdm.monitor_interval = 0


def progress(items: Iterable[T], label: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Return `items` behind a progress bar that is silent in a worker, and without a terminal to write to."""
    watched = sys.stderr.isatty() and threading.current_thread() is threading.main_thread() and not _silent
    return tqdm(items, desc=label, total=total, initial=initial, leave=False, disable=not watched)
