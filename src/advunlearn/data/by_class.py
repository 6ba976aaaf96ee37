"""Examples class by class, in a time that does not grow with the number of classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.arrays import Rows


def positions_by_class(labels: Rows) -> dict[int, Rows]:
    """Return the positions, sorted, of the examples of each class that occurs, in the order of the classes."""
    classes, first = np.unique(np.sort(labels), return_index=True)
    parts = np.split(np.argsort(labels, kind="stable"), first[1:])
    return dict(zip(classes.tolist(), parts, strict=False))  # without labels there is one empty part


def place_in_class(labels: Rows) -> Rows:
    """Return how many examples of the same class come before each of n examples, (n,)."""
    place = np.empty(len(labels), dtype=np.int64)
    for positions in positions_by_class(labels).values():
        place[positions] = np.arange(len(positions))
    return place


def rounded(values: NDArray[np.float64]) -> Rows:
    """Return whole numbers with the same sum, rounded up at the largest remainders."""
    counts = np.floor(values + 1e-9).astype(np.int64)
    missing = round(values.sum()) - counts.sum()
    counts[np.argsort(counts - values, kind="stable")[:missing]] += 1
    return counts


def shares(labels: Rows, count: int) -> dict[int, int]:
    """Return how many of `count` examples each class gets: its share of the labels (n,), rounded; see `rounded`."""
    classes, sizes = np.unique(labels, return_counts=True)
    return dict(zip(classes.tolist(), rounded(count * sizes / len(labels)).tolist(), strict=True))
