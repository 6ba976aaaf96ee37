"""The difference of two AUC on the same examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score

from advunlearn.evaluation.metrics import auc_interval
from advunlearn.evaluation.paired import auc_difference

Array = np.ndarray


def drawn(seed: int, shift: float = 0.0, shared: float = 1.0, size: int = 60) -> tuple[Array, Array, Array]:
    """Draw the scores of two models, which share how easy an example is; members score `shift` higher in the first."""
    rng = np.random.default_rng(seed)
    members = np.arange(size) < size // 3
    easy = shared * rng.normal(size=size)
    one, other = (easy + rng.normal(size=size) for _ in range(2))
    return one + shift * members, other, members


def test_the_interval_is_delongs_written_out() -> None:
    one, other, members = drawn(0, 1.0)
    low, high = (norm.ppf(level) for level in (0.025, 0.975))
    wins = [[[float(a > b) for b in score[~members]] for a in score[members]] for score in (one, other)]
    wins_apart = np.array(wins[0]) - np.array(wins[1])
    deviation = np.sqrt(wins_apart.mean(1).var(ddof=1) / 20 + wins_apart.mean(0).var(ddof=1) / 40)
    expected = roc_auc_score(members, one) - roc_auc_score(members, other)
    assert auc_difference(one, other, members) == pytest.approx(
        (expected, expected + low * deviation, expected + high * deviation)
    )
    _, least, most = auc_difference(one, other, members, cross_fitted=True)
    assert most - least == pytest.approx(np.sqrt(2) * (high - low) * deviation)


def test_of_models_that_are_alike_the_interval_holds_zero_in_95_of_100_and_two_intervals_would_be_too_wide() -> None:
    held, apart = 0, 0
    for seed in range(300):
        one, other, members = drawn(seed, shared=2.0)
        difference, low, high = auc_difference(one, other, members)
        held += low <= 0 <= high
        ends = [auc_interval(each[members], each[~members]) for each in (one, other)]
        apart += abs(difference) <= np.hypot(*(each[2] - each[0] for each in ends))
    least, most = binom.interval(0.999, 300, 0.95)
    assert least <= held <= most
    assert apart > most


def test_the_order_of_the_models_changes_the_sign_and_the_same_model_twice_has_no_difference() -> None:
    one, other, members = drawn(0, 1.0)
    difference, low, high = auc_difference(one, other, members)
    assert auc_difference(other, one, members) == pytest.approx((-difference, -high, -low))
    assert auc_difference(one, one, members) == (0, 0, 0)


def test_several_others_count_as_their_mean() -> None:
    one, other, members = drawn(0, 1.0)
    third = drawn(1)[0]
    aucs = [roc_auc_score(members, each) for each in (one, other, third)]
    difference, low, high = auc_difference(one, np.stack([other, third]), members)
    assert difference == pytest.approx(aucs[0] - (aucs[1] + aucs[2]) / 2)
    assert low < difference < high
    assert auc_difference(one, np.stack([other, other]), members) == pytest.approx(auc_difference(one, other, members))


def test_an_example_without_a_score_under_one_model_is_left_out() -> None:
    one, other, members = drawn(0, 1.0)
    other[3] = np.nan
    kept = np.arange(60) != 3
    assert auc_difference(one, other, members) == auc_difference(one[kept], other[kept], members[kept])


def test_two_models_without_error_have_an_interval() -> None:
    members = np.arange(20) < 10
    difference, low, high = auc_difference(members * 1.0, members * -1.0, members)
    assert difference == high == 1
    assert 0.5 < low < 1


@pytest.mark.parametrize("members", [np.ones(60, bool), np.zeros(60), np.zeros(59, bool)])
def test_bad_members_are_refused(members: Array) -> None:
    one, other, _ = drawn(0)
    with pytest.raises(ValueError, match="scores"):
        auc_difference(one, other, members)
