"""ROC figures against peers and closed forms, and intervals that hold what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import binom, norm, wasserstein_distance
from sklearn.metrics import roc_auc_score, roc_curve

from advunlearn.evaluation.comparison import gap, measure, measure_attack
from advunlearn.evaluation.metrics import (
    auc_interval,
    auc_over_models,
    clopper_pearson,
    epsilon_lower_bound,
    epsilon_of_counts,
    loss_distances,
    roc,
    roc_curve_points,
    widened,
)
from advunlearn.evaluation.metrics_file import ModelMetrics

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
    assert summary["auc"] == pytest.approx(auc, abs=1e-12)
    rates = [summary["tpr_at_fpr_0.01"], summary["tpr_at_fpr_0.001"]]
    assert rates == pytest.approx([at_percent, at_tenth], abs=1e-12)


@pytest.mark.parametrize("name", ["lira", "rmia", "big", "tie"])
def test_carlinis_strict_rates_are_never_above_ours(name: str) -> None:
    summary = roc(*golden(name))
    auc, _, at_tenth, at_percent = GOLDEN[f"{name}_carlini_auc_acc_tpr001_tpr01"]
    assert summary["auc"] == pytest.approx(auc, abs=1e-12)
    assert summary["tpr_at_fpr_0.01"] >= at_percent - 1e-12
    assert summary["tpr_at_fpr_0.001"] >= at_tenth - 1e-12


def test_the_nearest_rate_of_a_peer_is_not_ours() -> None:
    found = roc(*golden("big"))
    assert found["tpr_at_fpr_0.01"] > GOLDEN["big_ruli_auc_1_01"][1] + 1e-3
    assert found["tpr_at_fpr_0.01_false_positives"] <= 50


def test_the_auc_counts_ties_half_and_infinities_as_extremes() -> None:
    assert roc([1, 1, 1, 1], np.array([True, True, False, False]))["auc"] == 0.5
    scores = np.array([np.inf, 0.3, -np.inf, 0.1])
    assert roc(scores, np.array([True, True, False, False]))["auc"] == 1.0
    assert roc(-scores, np.array([True, True, False, False]))["auc"] == 0.0


def test_any_increasing_function_of_the_scores_gives_the_same() -> None:
    scores, members = golden("lira")
    before, after = roc(scores, members), roc(np.exp(scores / 100) - 3, members)
    assert before == after


def test_turning_the_scores_around_mirrors_the_auc_and_its_interval() -> None:
    scores, members = golden("big")
    one, other = roc(scores, members), roc(-scores, members)
    mirrored = (1 - one["auc"], 1 - one["auc_high"], 1 - one["auc_low"])
    assert (other["auc"], other["auc_low"], other["auc_high"]) == pytest.approx(mirrored)


@pytest.mark.parametrize(("shift", "members", "others"), [(0.0, 50, 250), (1.0, 50, 250), (2.5, 30, 30)])
def test_the_interval_holds_the_true_auc_in_95_of_100(shift: float, members: int, others: int) -> None:
    truth = norm.cdf(shift / np.sqrt(2))
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        _, low, high, _ = auc_interval(rng.normal(shift, 1, members), rng.normal(size=others))
        held += low <= truth <= high
    low, high = clopper_pearson(380, 400, 0.999)
    assert low <= held / 400 <= high


def test_the_variance_is_doubled_for_cross_fitted_scores() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.3, 1, 50), rng.normal(size=200)
    auc, low, high, made = auc_interval(positive, negative, cross_fitted=True)
    once, narrow_low, narrow_high, _ = auc_interval(positive, negative)
    assert auc == once
    assert "doubled" in made

    def width(low: float, high: float) -> float:
        return float(logit(high) - logit(low))

    assert width(low, high) == pytest.approx(np.sqrt(2) * width(narrow_low, narrow_high))


def test_perfect_separation_still_has_an_interval() -> None:
    summary = roc(np.arange(40), np.arange(40) >= 30)
    assert summary["auc"] == summary["auc_high"] == 1
    assert summary["auc_low"] == pytest.approx(clopper_pearson(10, 10)[0])


def test_scores_that_are_all_alike_are_not_sure_of_one_half() -> None:
    summary = roc(np.ones(300), np.arange(300) < 50)
    assert summary["auc"] == 0.5
    assert summary["auc_low"] < 0.4 < 0.6 < summary["auc_high"]


def test_one_member_or_one_nonmember_is_enough_for_an_interval() -> None:
    for members in ([True, False, False], [True, True, False]):
        summary = roc([3, 2, 1], np.array(members))
        assert 0 <= summary["auc_low"] <= summary["auc"] <= summary["auc_high"] <= 1


def test_clopper_pearson_is_the_textbooks() -> None:
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))
    assert clopper_pearson(1, 20) == pytest.approx((0.00127, 0.24873), abs=1e-5)


@pytest.mark.parametrize("name", ["lira", "big"])
def test_epsilon_at_every_threshold_is_tensorflow_privacys(name: str) -> None:
    scores, members = golden(name)
    found, wrong = ((scores[members == side] >= np.unique(scores)[:, None]).sum(1) for side in (True, False))
    epsilons = epsilon_of_counts(found, int(members.sum()), wrong, int((~members).sum()))
    expected = GOLDEN[f"eps_{name}_clopper-pearson_one"]
    np.testing.assert_allclose(np.sort(epsilons)[: -len(expected) - 1 : -1], expected, rtol=1e-9)


def test_epsilon_of_counts_is_the_better_of_two_ratios() -> None:
    found, wrong = GOLDEN["rb_tp"], GOLDEN["rb_fp"]
    ratios = np.exp(epsilon_of_counts(found, 110, wrong, 80))
    mirrored = np.exp(epsilon_of_counts(80 - wrong, 80, 110 - found, 110))
    np.testing.assert_allclose(ratios, mirrored, rtol=1e-9)
    first = found / 110 + wrong / 80 < 1  # where the rate of true positives is the smaller one to divide by
    expected = np.maximum(GOLDEN["rb_clopper-pearson"], 1)
    assert (ratios >= expected * (1 - 1e-12)).all()
    np.testing.assert_allclose(ratios[first], expected[first], rtol=1e-9)
    assert (np.abs(ratios - GOLDEN["rb_bailey"]) > 0.1).any()  # the peer's default is asymptotic, and larger


def test_epsilon_of_perfect_answers_is_what_so_many_trials_can_certify() -> None:
    # Zero errors of N and N: log(q / (1 - q)) with q = 0.025^(1/N); half of the examples choose, half are judged.
    for trials in (8, 64, 512):
        q = 0.025 ** (1 / trials)
        members = np.arange(4 * trials) >= 2 * trials
        assert epsilon_of_counts(trials, trials, 0, trials) == pytest.approx(np.log(q / (1 - q)))
        assert epsilon_lower_bound(members.astype(float), members, seed=0) == pytest.approx(np.log(q / (1 - q)))
    assert epsilon_of_counts(64, 64, 0, 64, delta=0.1) < epsilon_of_counts(64, 64, 0, 64)


def test_epsilon_of_a_private_mechanism_is_rarely_above_its_own() -> None:
    rng, side, epsilon = np.random.default_rng(0), np.arange(400) < 200, 1.0
    above = 0
    for seed in range(200):  # randomised response: tells the truth with probability e^epsilon / (1 + e^epsilon)
        answers = side ^ (rng.random(400) < 1 / (1 + np.exp(epsilon)))
        above += epsilon_lower_bound(answers.astype(float), side, seed=seed) > epsilon
    assert above <= binom.ppf(0.999, 200, 0.05)


def test_epsilon_of_one_member_is_zero_and_a_bad_delta_is_refused() -> None:
    assert epsilon_lower_bound([3, 2, 1], np.array([True, False, False]), seed=0) == 0
    with pytest.raises(ValueError, match="delta"):
        epsilon_of_counts(1, 2, 1, 2, delta=1.0)


def many_models(models: int, spread: float, seed: int, each: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, members and groups; how far members stand above others differs from model to model."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(models), 2 * each)
    members = np.tile(np.arange(2 * each) < each, models)
    shift = 0.5 + spread * rng.normal(size=models)
    return rng.normal(size=len(groups)) + shift[groups] * members, members, groups


def test_the_bootstrap_over_models_holds_the_true_auc_where_delong_does_not() -> None:
    spread, runs = 0.7, 100
    truth = norm.cdf(0.5 / np.sqrt(2 + spread**2))
    held, delong = 0, 0
    for seed in range(runs):
        scores, members, groups = many_models(40, spread, seed)
        _, low, high, made = auc_over_models(scores, members, groups, seed=seed, resamples=400)
        held += low <= truth <= high
        _, low, high, _ = auc_interval(scores[members], scores[~members])
        delong += low <= truth <= high
    least, most = binom.interval(0.999, runs, 0.95)
    assert least <= held <= most
    assert delong < least
    assert made == "cluster bootstrap over 40 groups, 400 resamples"


def test_the_auc_over_models_is_that_of_all_scores_and_has_one_draw_a_seed() -> None:
    scores, members, groups = many_models(5, 0.3, 0)
    scores = np.round(scores, 1)  # ties
    auc, *rest = auc_over_models(scores, members, groups, seed=1)
    assert auc == pytest.approx(roc_auc_score(members, scores))
    assert auc_over_models(scores, members, 7 * groups, seed=1) == (auc, *rest)
    assert auc_over_models(scores, members, groups, seed=2)[1:3] != tuple(rest[:2])


def test_a_resample_is_the_auc_of_the_drawn_models() -> None:
    scores, members, groups = many_models(2, 0.3, 0)
    aucs = [roc_auc_score(members[groups == group], scores[groups == group]) for group in (0, 1)]
    auc, low, high, _ = auc_over_models(scores, members, groups, seed=0)  # a quarter of the draws is one model twice
    assert (low, high) == pytest.approx(widened(auc, (min(aucs), max(aucs)), 2, cross_fitted=False))


@pytest.mark.parametrize("groups", [np.zeros(4), np.zeros(3)])
def test_one_model_alone_cannot_be_resampled(groups: np.ndarray) -> None:
    with pytest.raises(ValueError, match="group"):
        auc_over_models(np.arange(4), np.array([True, False, True, False]), groups, seed=0)


def test_balanced_accuracy_of_scores_that_know_nothing_is_one_half() -> None:
    rng = np.random.default_rng(0)
    side = np.arange(300) < 50
    found = [roc(rng.normal(size=300), side, seed=seed)["balanced_accuracy"] for seed in range(60)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(60))


def test_unscored_examples_are_left_out_and_counted() -> None:
    scores, members = golden("lira")
    scores = scores.copy()
    scores[~members] = np.where(np.arange((~members).sum()) < 30, np.nan, scores[~members])
    summary = roc(scores, members)
    assert summary["excluded"] == 30
    assert summary["nonmembers"] == (~members).sum() - 30
    known = ~np.isnan(scores)
    assert summary["auc"] == pytest.approx(roc_auc_score(members[known], scores[known]))


def test_too_few_nonmembers_are_said() -> None:
    assert (
        "40 non-members are too few to measure a false-positive rate of 1 % or 0.1 %"
        in roc(np.arange(50), np.arange(50) < 10)["note"]
    )
    assert roc(np.arange(4000), np.arange(4000) < 10)["note"] == ""


@pytest.mark.parametrize("values", [2, 7, 1000])
def test_the_curve_is_that_of_scikit_learn_with_ties_as_without(values: int) -> None:
    rng = np.random.default_rng(values)
    scores, members = rng.integers(0, values, 200).astype(float), rng.random(200) < 0.3
    expected = roc_curve(members, scores, drop_intermediate=False)[:2]
    assert np.array_equal(roc_curve_points(scores, members), expected)


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

    def model(accuracy: float, boost: float) -> ModelMetrics:
        scores = rng.normal(size=60) + boost * members
        attacks = {"threshold": measure_attack(scores, members, seed=0, cross_fitted=False)}
        return measure({"test": accuracy}, {"test": 50}, rng.random(60), members, attacks)

    original, retrained = model(0.9, 3.0), model(0.8, 0.0)
    found = gap(original, retrained)
    assert found["accuracy"]["test"] == pytest.approx(0.1)
    assert found["attacks"]["threshold"] > 0.3
    assert original["accuracy_low"]["test"] < 0.9 < original["accuracy_high"]["test"]
