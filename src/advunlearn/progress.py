"""Progress bars: on standard error, and only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """Return `items` behind a progress bar that is silent when standard error is not a terminal."""
    return tqdm(items, desc=label, total=total, leave=False, disable=not sys.stderr.isatty())
