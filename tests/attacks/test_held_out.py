"""Held-out ranks: nobody judges what it was fitted on, and the class says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from advunlearn.attacks.held_out import balanced_weights, held_out_ranks


def test_every_example_is_judged_once_by_a_fit_on_all_others_folds() -> None:
    members, labels = np.arange(60) < 20, np.arange(60) % 4
    judgements = []

    def decide(seen: np.ndarray, judged: np.ndarray) -> np.ndarray:
        assert (seen ^ judged).all()
        assert members[judged].sum() == 4
        assert [(labels[judged & members] == label).sum() for label in range(4)] == [1] * 4
        judgements.append(judged)
        return np.flatnonzero(judged).astype(float)

    ranks = held_out_ranks(decide, members, labels, 5, np.random.default_rng(0))
    assert (np.sum(judgements, axis=0) == 1).all()
    for judged in judgements:
        assert ranks[judged] == pytest.approx(np.arange(1, 13) / 13)


@pytest.mark.parametrize("seed", range(20))
def test_folds_have_as_many_of_each_side_where_classes_are_smaller_than_their_number(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members, labels = rng.permutation(np.arange(40) < 8), rng.integers(0, 10, 40)
    sizes = []

    def decide(seen: np.ndarray, judged: np.ndarray) -> np.ndarray:
        sizes.append((members[judged].sum(), judged.sum()))
        return np.zeros(judged.sum())

    held_out_ranks(decide, members, labels, 5, rng)
    assert sorted(count for count, _ in sizes) == [1, 1, 2, 2, 2]
    assert [size for _, size in sizes] == [8] * 5


def test_folds_have_members_where_each_class_has_one() -> None:
    members, labels = np.arange(50) % 10 == 0, np.arange(50) // 10
    counts = []

    def decide(seen: np.ndarray, judged: np.ndarray) -> np.ndarray:
        counts.append(members[judged].sum())
        return np.zeros(judged.sum())

    held_out_ranks(decide, members, labels, 5, np.random.default_rng(0))
    assert counts == [1] * 5  # scikit-learn's StratifiedKFold puts all five into one fold


def test_weights_make_members_and_nonmembers_of_each_class_equal() -> None:
    members = np.array([True, False, False, False, True, True, False, True])
    labels = np.array([0, 0, 0, 0, 2, 2, 2, 5])
    found = balanced_weights(members, labels)
    assert found == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3, 0.75, 0.75, 1.5, 0])  # class 5 has no non-member
    with pytest.raises(ValueError, match="their classes alone separate them"):
        balanced_weights(np.array([True, False]), np.array([0, 1]))
