"""ROC figures against peers and closed forms, and intervals that hold what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance
from sklearn.metrics import roc_auc_score

from advunlearn.evaluation.comparison import gap, measure
from advunlearn.evaluation.metrics import clopper_pearson, loss_distances, roc, roc_curve_points

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")


def golden(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "big":
        scores = np.concatenate([GOLDEN["big_member"], GOLDEN["big_nonmember"]])
        return scores, np.arange(len(scores)) < len(GOLDEN["big_member"])
    return GOLDEN[f"{name}_score"], GOLDEN["tie_member" if name == "tie" else "member"]


@pytest.mark.parametrize("name", ["lira", "rmia", "big", "tie"])
def test_auc_and_low_rates_are_privacy_meters(name: str) -> None:
    summary = roc(*golden(name))
    auc, at_percent, at_tenth, _ = GOLDEN[f"{name}_pm_auc_1_01_0"]
    assert summary.auc == pytest.approx(auc, abs=1e-12)
    assert [point.tpr for point in summary.low_fpr] == pytest.approx([at_percent, at_tenth], abs=1e-12)


def test_the_auc_counts_ties_half_and_infinities_as_extremes() -> None:
    assert roc([1, 1, 1, 1], np.array([True, True, False, False])).auc == 0.5
    scores = np.array([np.inf, 0.3, -np.inf, 0.1])
    assert roc(scores, np.array([True, True, False, False])).auc == 1.0
    assert roc(-scores, np.array([True, True, False, False])).auc == 0.0


def test_any_increasing_function_of_the_scores_gives_the_same() -> None:
    scores, members = golden("lira")
    before, after = roc(scores, members), roc(np.exp(scores / 100) - 3, members)
    assert before == after


def test_turning_the_scores_around_mirrors_the_auc_and_its_interval() -> None:
    scores, members = golden("big")
    one, other = roc(scores, members), roc(-scores, members)
    assert (other.auc, other.auc_low, other.auc_high) == pytest.approx((1 - one.auc, 1 - one.auc_high, 1 - one.auc_low))


@pytest.mark.parametrize(("shift", "members", "others"), [(0.0, 50, 250), (1.0, 50, 250), (2.5, 30, 30)])
def test_the_interval_holds_the_true_auc_in_95_of_100(shift: float, members: int, others: int) -> None:
    truth = norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(0)
    side = np.arange(members + others) < members
    held = 0
    for _ in range(400):
        summary = roc(rng.normal(size=len(side)) + shift * side, side)
        held += summary.auc_low <= truth <= summary.auc_high
    low, high = clopper_pearson(380, 400, 0.999)
    assert low <= held / 400 <= high


def test_perfect_separation_still_has_an_interval() -> None:
    summary = roc(np.arange(40), np.arange(40) >= 30)
    assert summary.auc == summary.auc_high == 1
    assert summary.auc_low == pytest.approx(clopper_pearson(10, 10)[0])


def test_scores_that_are_all_alike_are_not_sure_of_one_half() -> None:
    summary = roc(np.ones(300), np.arange(300) < 50)
    assert summary.auc == 0.5
    assert summary.auc_low < 0.4 < 0.6 < summary.auc_high


def test_one_member_or_one_nonmember_is_enough_for_an_interval() -> None:
    for members in ([True, False, False], [True, True, False]):
        summary = roc([3, 2, 1], np.array(members))
        assert 0 <= summary.auc_low <= summary.auc <= summary.auc_high <= 1


def test_clopper_pearson_is_the_textbooks() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))
    assert clopper_pearson(1, 20) == pytest.approx((0.00127, 0.24873), abs=1e-5)


def test_balanced_accuracy_of_scores_that_know_nothing_is_one_half() -> None:
    rng = np.random.default_rng(0)
    side = np.arange(300) < 50
    found = [roc(rng.normal(size=300), side, seed=seed).balanced_accuracy for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(60))


def test_unscored_examples_are_left_out_and_counted() -> None:
    scores, members = golden("lira")
    scores = scores.copy()
    scores[~members] = np.where(np.arange((~members).sum()) < 30, np.nan, scores[~members])
    summary = roc(scores, members)
    assert summary.excluded == 30
    assert summary.nonmembers == (~members).sum() - 30
    known = ~np.isnan(scores)
    assert summary.auc == pytest.approx(roc_auc_score(members[known], scores[known]))


def test_too_few_nonmembers_are_said() -> None:
    assert (
        "40 non-members are too few to speak about a false-positive rate of 1 % or 0.1 %"
        in roc(np.arange(50), np.arange(50) < 10).note
    )
    assert roc(np.arange(4000), np.arange(4000) < 10).note == ""


def test_the_curve_runs_from_corner_to_corner() -> None:
    fpr, tpr = roc_curve_points(*golden("rmia"))
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()


@pytest.mark.parametrize(
    ("scores", "members"),
    [
        ([1, 2], [True, True]),
        ([np.nan, 2], [True, False]),
        ([1, 2, 3], [True, False]),
        ([1, 2], [1, 0]),
    ],
)
def test_bad_input_is_refused(scores: list[float], members: list[bool]) -> None:
    with pytest.raises(ValueError, match="member"):
        roc(scores, np.array(members))


def test_loss_distances() -> None:
    assert loss_distances([0, 0, 0], [1, 1]) == (1, 1)
    a, b = np.random.default_rng(0).exponential(size=(2, 100))
    assert loss_distances(a, b)[1] == wasserstein_distance(a, b)
    with pytest.raises(ValueError, match="finite"):
        loss_distances([np.inf], [1.0])


def test_the_gap_is_above_the_retrained_model() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(60) < 30

    def model(accuracy: float, boost: float) -> dict[str, object]:
        scores = {"threshold": rng.normal(size=60) + boost * members}
        accuracies, examples = {"test": accuracy}, {"test": 50}
        return measure(accuracies, examples, rng.random(60), scores, members, {"threshold": 0}, (), {}, seed=0)

    original, retrained = model(0.9, 3.0), model(0.8, 0.0)
    found = gap(original, retrained)
    assert found["accuracy"]["test"] == pytest.approx(0.1)
    assert found["attacks"]["threshold"] > 0.3
    assert original["accuracy_low"]["test"] < 0.9 < original["accuracy_high"]["test"]  # type: ignore[index]
