"""Members and non-members that are compared have the same classes, in the same shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advunlearn.data.comparable import comparable
from advunlearn.options import UserError


def kept(members: list[int], others: list[int]) -> tuple[list[int], list[int], str]:
    """Return how many of these counts by class are compared, and the remark."""
    labels = [np.repeat(np.arange(len(counts)), counts) for counts in (members, others)]
    *rows, remark = comparable(labels[0], labels[1])
    counts = [np.bincount(of[each], minlength=len(members)) for of, each in zip(labels, rows, strict=True)]
    return counts[0].tolist(), counts[1].tolist(), remark


@pytest.mark.parametrize(
    ("members", "others"),
    [
        ([5] * 10, [31, 30, 29, 30, 31, 30, 30, 29, 30, 30]),  # both stratified
        ([2, 2, 1, 1, 1, 1], [9, 9, 9, 9, 8, 10]),  # as even as so few can be
        ([0, 50, 0], [0, 31, 0]),  # one class
        ([6000, 4000], [1000, 667]),
    ],
)
def test_stratified_parts_are_compared_whole(members: list[int], others: list[int]) -> None:
    assert kept(members, others) == (members, others, "")


def test_other_classes_are_left_out() -> None:
    assert kept([0, 50, 0], [30, 31, 32]) == ([0, 50, 0], [0, 31, 0], "")
    assert kept([3, 4, 0], [0, 4, 9]) == ([0, 4, 0], [0, 4, 0], "")  # no test example of class 0
    with pytest.raises(UserError, match="no example of the forget set's classes"):
        kept([3, 0], [0, 3])


def test_a_class_with_a_larger_share_of_the_forget_set_has_it_of_the_test_set_as_well() -> None:
    members, others, remark = kept([35, *[3] * 5], [30] * 6)
    assert members == [35, *[3] * 5]
    assert others[0] == 30
    assert sum(others[1:]) in (12, 13)  # 30 / 35 * 15
    assert remark.endswith(f"0 of 50 forget and {180 - sum(others)} of 180 test examples are left out")


def test_a_class_that_the_test_set_hardly_has_does_not_cost_all_others() -> None:
    members, others, _ = kept([10, *[5] * 8], [1, *[38] * 8])
    assert members[1:] == [5] * 8
    assert others[1:] == [38] * 8


def test_the_examples_of_a_class_that_are_kept_are_spread_over_it() -> None:
    _, others, _ = comparable(np.repeat([0, 1], [40, 10]), np.repeat([0, 1], [40, 40]))
    assert others[others >= 40].tolist() == [40 + round(each) for each in np.floor(np.linspace(0, 39, 10))]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_whatever_the_classes_are_no_side_has_more_of_one(counts: list[tuple[int, int]]) -> None:
    members, others = (list(each) for each in zip(*counts, strict=True))
    if not any(x and y for x, y in counts):
        with pytest.raises(UserError):
            kept(members, others)
        return
    first, second, _ = kept(members, others)
    ratio = sum(second) / sum(first)
    for x, y in zip(first, second, strict=True):
        assert (x > 0) == (y > 0)
        assert abs(x - y / ratio) <= 2 * (1 + 1 / ratio)  # a row on each side, of both roundings
