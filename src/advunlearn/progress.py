"""Progress bars: on standard error, and only where a person watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Return `items` behind a progress bar that is silent in a worker thread, and without a terminal to write to."""
    watched = sys.stderr.isatty() and threading.current_thread() is threading.main_thread()
    return tqdm(items, desc=label, total=total, initial=initial, leave=False, disable=not watched)
