"""True-positive rates over many models, against the definition and against resamples that are written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from advunlearn.evaluation.metrics import tpr_at_fpr, widened
from advunlearn.evaluation.over_models import _Rates, tpr_over_models

rates = pytest.mark.parametrize("fpr", [0.01, 0.05, 0.2])


def drawn(groups: int, each: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    members = np.arange(groups * each) % 2 == 0
    scores = np.round(rng.normal(size=len(members)) + shift * members, 1)  # with ties
    return scores, members, np.repeat(np.arange(groups), each)


@rates
@pytest.mark.parametrize("seed", range(3))
def test_the_rate_is_that_of_one_model_and_its_interval_holds_it(fpr: float, seed: int) -> None:
    scores, members, groups = drawn(12, 30, seed)
    ((tpr, low, high),) = tpr_over_models(scores, members, groups, [fpr], seed=0)
    assert tpr == pytest.approx(tpr_at_fpr(scores, members, fpr).tpr)
    assert 0 <= low <= tpr <= high <= 1


@rates
def test_a_group_that_is_drawn_twice_counts_twice(fpr: float) -> None:
    scores, members, groups = drawn(6, 20, 0)
    weights = np.array([[2, 0, 1, 3, 0, 1], [0, 0, 0, 0, 6, 0]])
    found = _Rates(scores, members, groups).at(weights, [fpr])[:, 0]
    for row, rate in zip(weights, found, strict=True):
        copies = np.repeat(np.arange(len(scores)), row[groups])
        assert rate == pytest.approx(tpr_at_fpr(scores[copies], members[copies], fpr).tpr)


def test_resamples_without_members_are_left_out_and_a_rate_of_zero_has_an_interval() -> None:
    scores, members = np.arange(40.0), np.arange(40) < 20  # all members score below all others
    ((tpr, low, high),) = tpr_over_models(scores, members, np.arange(40) // 20, [0.05], seed=0)
    assert (tpr, low) == (0, 0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))  # Clopper and Pearson for none of 20


def test_of_independent_scores_the_interval_holds_the_true_rate_in_95_of_100() -> None:
    held, runs = 0, 100
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        members, groups = np.arange(800) % 2 == 0, np.arange(800) // 10
        scores = rng.normal(size=800) + members
        ((_, low, high),) = tpr_over_models(scores, members, groups, [0.05], seed=seed, resamples=200)
        held += low <= norm.sf(norm.isf(0.05) - 1) <= high
    least, most = binom.interval(0.999, runs, 0.95)
    assert least <= held <= most


def test_few_groups_and_cross_fitting_move_the_ends_out() -> None:
    assert widened(0.6, (0.5, 0.8), 20, cross_fitted=False) == (0.5, 0.8)
    assert widened(0.6, (0.5, 0.8), 32, cross_fitted=True) == pytest.approx((0.6 - 2**0.5 / 10, 0.6 + 2**0.5 / 5))
    # t(7) at 97.5 % is 2.3646, over 1.9600, times the root of 8 / 7.
    assert widened(0.6, (0.5, 0.7), 8, cross_fitted=False) == pytest.approx((0.6 - 0.12898, 0.6 + 0.12898), abs=1e-5)
    assert widened(0.1, (0.0, 0.2), 4, cross_fitted=True)[0] == 0
