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


def test_weights_make_members_and_nonmembers_of_each_class_equal() -> None:
    members = np.array([True, False, False, False, True, True, False, True])
    labels = np.array([0, 0, 0, 0, 2, 2, 2, 5])
    found = balanced_weights(members, labels)
    assert found == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3, 0.75, 0.75, 1.5, 0])  # class 5 has no non-member
    with pytest.raises(ValueError, match="their classes alone tell them apart"):
        balanced_weights(np.array([True, False]), np.array([0, 1]))
