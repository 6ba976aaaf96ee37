"""Examples are taken class by class in a time that does not grow with the number of classes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from advunlearn.attacks.threshold import class_percentiles, per_class_thresholds
from advunlearn.data.by_class import place_in_class, positions_by_class
from advunlearn.data.comparable import comparable
from advunlearn.data.forget.random import Random
from advunlearn.shadows.originals import half_of, matched

COUNT = 300_000
SCORES = np.random.default_rng(0).normal(size=COUNT)
ROWS = np.arange(COUNT)
MANY = ROWS * 7919 % 10_000


def test_positions_and_places_are_those_of_each_class() -> None:
    labels = np.array([3, 0, 3, 5, 0, 3])
    found = positions_by_class(labels)
    assert {label: rows.tolist() for label, rows in found.items()} == {0: [1, 4], 3: [0, 2, 5], 5: [3]}
    assert list(found) == [0, 3, 5]
    assert place_in_class(labels).tolist() == [0, 0, 1, 0, 1, 2]
    assert positions_by_class(labels[:0]) == {}
    assert place_in_class(labels[:0]).tolist() == []


WORK: dict[str, Callable[[np.ndarray], object]] = {
    "percentiles": lambda labels: class_percentiles(SCORES, labels, SCORES, labels),
    "thresholds": lambda labels: per_class_thresholds(SCORES, labels, SCORES > 0, int(labels.max()) + 1),
    "comparable": lambda labels: comparable(labels[: COUNT // 2], labels[COUNT // 2 :]),
    "forget": lambda labels: Random().select(ROWS, labels, np.random.default_rng(0)),
    "halves": lambda labels: half_of(ROWS, labels, 0, np.random.default_rng(0)),
    "matched": lambda labels: matched(ROWS[: COUNT // 2], ROWS[COUNT // 2 :], labels, np.random.default_rng(0)),
}


@pytest.fixture(scope="module")
def one_by_one() -> float:
    """Return the seconds in which the examples of 10,000 classes are looked up class by class."""
    start = time.perf_counter()
    for each in range(10_000):
        np.flatnonzero(each == MANY)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", WORK)
def test_10_000_classes_are_not_looked_up_one_by_one(name: str, one_by_one: float) -> None:
    start = time.perf_counter()
    WORK[name](MANY)
    assert time.perf_counter() - start < one_by_one
