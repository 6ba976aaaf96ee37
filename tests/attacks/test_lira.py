"""LiRA, against peers, closed forms and invariances."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from advunlearn.attacks.attack import STDERR, Observations
from advunlearn.attacks.jackknife import jackknife_error
from advunlearn.attacks.lira import (
    CENTERS,
    FLOOR,
    SIDES,
    VARIANCES,
    LiRA,
    log_likelihood_ratio,
    ratio_error,
)
from advunlearn.evaluation.metrics import roc
from advunlearn.options import OptionError
from advunlearn.shadows.outputs import ShadowOutputs

GOLDEN = Path(__file__).parents[1] / "golden"
TFP = np.load(GOLDEN / "lira_tfp.npz")
CARLINI = np.load(GOLDEN / "lira_carlini.npz")


def peers_inputs(queries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return TFP["stat_target"][:, :queries], TFP["stat_shadow"][:, :, :queries], TFP["in_mask"]


@pytest.mark.parametrize("queries", [1, 2])
@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize(("variance", "name"), [("per_example", "pervar"), ("fixed", "fixvar")])
def test_the_ratio_is_tensorflow_privacys(queries: int, center: str, variance: str, name: str) -> None:
    found = log_likelihood_ratio(*peers_inputs(queries), center=center, variance=variance)
    np.testing.assert_allclose(-found, TFP[f"lira_k{queries}_both_{name}_{center}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("queries", [1, 2])
def test_the_ratio_and_its_auc_are_carlinis(queries: int) -> None:
    found = log_likelihood_ratio(*peers_inputs(queries), center="median", variance="per_example")
    np.testing.assert_allclose(-found, CARLINI[f"online_k{queries}"], rtol=1e-9, atol=1e-12)
    auc = roc(found, TFP["member"])["auc"]
    assert auc == pytest.approx(CARLINI[f"online_k{queries}_auc_acc_tpr01"][0], abs=1e-12)


def test_fixed_variance_is_of_residuals_not_of_raw_scores() -> None:
    found = log_likelihood_ratio(*peers_inputs(2), center="median", variance="fixed")
    assert np.abs(-found - CARLINI["online_fixvar_k2"]).max() > 0.1  # the peer does not centre, and mixes the sides


def test_the_one_sided_score_is_equation_4() -> None:
    target, shadows, membership = peers_inputs(1)
    found = log_likelihood_ratio(target, shadows, membership, center="mean", variance="per_example", side="out")
    example = 17
    outside = shadows[~membership[:, example], example, 0]
    expected = norm.logcdf(target[example, 0], outside.mean(), outside.std() + FLOOR)
    assert found[example] == pytest.approx(expected, rel=1e-12)


def test_pooled_variance_is_one_sigma_over_both_sides() -> None:
    target, shadows, membership = peers_inputs(1)
    found = log_likelihood_ratio(target, shadows, membership, center="mean", variance="pooled")
    example = 5
    inside, outside = (shadows[side[:, example], example, 0] for side in (membership, ~membership))
    sigma = np.concatenate([inside - inside.mean(), outside - outside.mean()]).std() + FLOOR
    value = target[example, 0]
    expected = norm.logpdf(value, inside.mean(), sigma) - norm.logpdf(value, outside.mean(), sigma)
    assert found[example] == pytest.approx(expected, rel=1e-12)


def test_order_of_models_and_a_shift_of_all_margins_change_nothing() -> None:
    target, shadows, membership = peers_inputs(2)
    order = np.random.default_rng(0).permutation(len(shadows))
    for variance in ("per_example", "fixed", "pooled"):
        expected = log_likelihood_ratio(target, shadows, membership, variance=variance)
        permuted = log_likelihood_ratio(target, shadows[order], membership[order], variance=variance)
        np.testing.assert_allclose(permuted, expected, rtol=1e-9, atol=1e-9)
        shifted = log_likelihood_ratio(target + 7, shadows + 7, membership, variance=variance)
        np.testing.assert_allclose(shifted, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", ["per_example", "fixed", "pooled"])
def test_with_one_shadow_model_a_side_the_nearer_one_decides(variance: str) -> None:
    rng = np.random.default_rng(0)
    first = np.arange(50) < 25  # the first model is IN for these examples, the second for the others
    target, shadows = rng.normal(size=(50, 1)), rng.normal(size=(2, 50, 1))
    found = log_likelihood_ratio(target, shadows, np.stack([first, ~first]), variance=variance)
    to_first, to_second = (target - shadows)[..., 0] ** 2
    # Every residual is zero, so sigma is the floor on both sides.
    expected = np.where(first, to_second - to_first, to_first - to_second) / (2 * FLOOR**2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_constant_scores_say_nothing() -> None:
    membership = np.arange(8)[:, None] % 2 == np.zeros((1, 6), dtype=int)
    for variance in ("per_example", "fixed", "pooled"):
        found = log_likelihood_ratio(np.ones((6, 1)), np.ones((8, 6, 1)), membership, variance=variance)
        assert found.tolist() == [0] * 6


def test_an_example_without_a_side_has_no_score_and_warns_of_nothing() -> None:
    rng = np.random.default_rng(0)
    membership = rng.random((6, 10)) < 0.5
    membership[:, 3], membership[:, 4] = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for variance in ("per_example", "fixed", "pooled"):
            found = log_likelihood_ratio(
                rng.normal(size=(10, 1)), rng.normal(size=(6, 10, 1)), membership, variance=variance
            )
            assert np.isnan(found[[3, 4]]).all()
    one_sided = log_likelihood_ratio(rng.normal(size=(10, 1)), rng.normal(size=(6, 10, 1)), membership, side="out")
    assert np.isfinite(one_sided[3])
    assert np.isnan(one_sided[4])


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("side", SIDES)
def test_the_error_is_that_of_leaving_out_each_model_in_turn(center: str, variance: str, side: str) -> None:
    rng = np.random.default_rng(0)
    membership = rng.random((9, 60)) < 0.5  # with examples of 0, 1 and 2 models on a side, of even and odd numbers
    membership[:, 0], membership[:, 1], membership[:, 2] = True, np.arange(9) < 1, np.arange(9) < 2
    target, shadows = rng.normal(size=(60, 2)), rng.normal(size=(9, 60, 2)) + 3 * membership[..., None]
    options = {"center": center, "variance": variance, "side": side}
    without = np.stack(
        [
            log_likelihood_ratio(target, np.delete(shadows, model, 0), np.delete(membership, model, 0), **options)  # type: ignore[arg-type]
            for model in range(9)
        ]
    )
    found = ratio_error(target, shadows, membership, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, jackknife_error(without, membership), rtol=1e-9)
    assert np.isnan(found[0])
    assert np.isnan(found[1]) == (side == "both")
    assert np.isfinite(found[2])


@pytest.mark.parametrize(("center", "within"), [("mean", 0.06), ("median", 0.2)])
@pytest.mark.parametrize("variance", ["fixed", "pooled"])
def test_the_error_is_how_far_ratios_scatter_over_other_shadow_models(
    center: str, variance: str, within: float
) -> None:
    rng = np.random.default_rng(0)
    membership = np.argsort(rng.random((32, 100)), axis=0) < 16
    target, ratios, errors = rng.normal(size=(100, 1)), [], []
    for _ in range(100):
        shadows = rng.normal(size=(32, 100, 1)) + membership[..., None]
        ratios.append(log_likelihood_ratio(target, shadows, membership, center=center, variance=variance))
        errors.append(ratio_error(target, shadows, membership, center=center, variance=variance))
    assert np.mean(errors) == pytest.approx(np.std(ratios, axis=0).mean(), rel=within)


def test_with_one_model_a_side_the_order_of_the_ratios_counts_and_not_their_size() -> None:
    rng = np.random.default_rng(0)
    target, shadows, membership = rng.normal(size=(20, 1)), rng.normal(size=(2, 20, 1)), np.eye(2, dtype=bool)
    membership = np.repeat(membership[:, :1], 20, axis=1)
    found = log_likelihood_ratio(target, shadows, membership, variance="fixed")
    nearer = (target - shadows[1]) ** 2 - (target - shadows[0]) ** 2
    assert np.argsort(found).tolist() == np.argsort(nearer[:, 0]).tolist()


def test_known_distributions_give_the_analytic_auc() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(20000) < 10000
    membership = np.tile([[True], [False]], (32, 1)).repeat(20000, axis=1)
    shift = 1.3
    target = rng.normal(size=(20000, 1)) + shift * members[:, None]
    shadows = np.tile([[[shift]], [[0.0]]], (32, 20000, 1)) + rng.normal(size=(64, 20000, 1))
    found = log_likelihood_ratio(target, shadows, membership, variance="fixed", center="mean")
    assert roc_auc_score(members, found) == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=0.012)


def test_shuffled_membership_gives_one_half() -> None:
    aucs = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        members = rng.permutation(np.arange(200) < 100)
        membership = np.stack([row for _ in range(8) for half in [rng.permutation(200) < 100] for row in (half, ~half)])
        scores = log_likelihood_ratio(rng.normal(size=(200, 1)), rng.normal(size=(16, 200, 1)), membership)
        aucs.append(roc(scores, members)["auc"])
    assert np.mean(aucs) == pytest.approx(0.5, abs=4 * 0.041 / np.sqrt(40))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": np.zeros(3)}, "must fit together"),
        ({"shadows": np.zeros((4, 2, 1))}, "must fit together"),
        ({"shadows": np.zeros((0, 3, 1)), "membership": np.zeros((0, 3), dtype=bool)}, "at least one shadow model"),
        ({"target": np.full((3, 1), np.nan)}, "finite"),
        ({"center": "mode"}, "center must be one of"),
        ({"variance": "global"}, "variance must be one of"),
        ({"side": "in"}, "side must be one of"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {"target": np.zeros((3, 1)), "shadows": np.zeros((4, 3, 1)), "membership": np.eye(4, 3, dtype=bool)}
    with pytest.raises(ValueError, match=words):
        log_likelihood_ratio(**{**arguments, **change})  # type: ignore[arg-type]


def test_the_attack_asks_margins_of_logits() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 30)
    members = np.arange(30) < 10
    shadows = ShadowOutputs(
        rng.normal(size=(8, 30, 1, 4)).astype(np.float32), rng.random((8, 30)) < 0.5, np.zeros((8, 0, 1, 4), np.float32)
    )
    target = Observations(rng.normal(size=(30, 1, 4)).astype(np.float32), labels, members)
    scores = LiRA().score(target, shadows, rng)
    assert list(scores) == ["", STDERR]
    online = scores[""]
    offline = LiRA(mode="offline").score(target, shadows, rng)[""]
    assert online.shape == offline.shape == (30,)
    assert not np.array_equal(online, offline)
    with pytest.raises(ValueError, match="needs shadow models"):
        LiRA().score(target, None, rng)


def test_offline_scores_ask_nothing_of_models_that_saw_the_example() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 30)
    membership = rng.random((16, 30)) < 0.5
    logits = rng.normal(size=(16, 30, 1, 4)).astype(np.float32)
    target = Observations(rng.normal(size=(30, 1, 4)).astype(np.float32), labels, np.arange(30) < 10)
    louder = np.where(membership[:, :, None, None], 10 * logits, logits)
    scores = [
        LiRA(mode="offline").score(target, ShadowOutputs(each, membership, each[:, :0]), rng)[""]
        for each in (logits, louder)
    ]
    assert np.array_equal(*scores)
    with pytest.raises(OptionError, match="variance=pooled needs models that saw the example"):
        LiRA(mode="offline", variance="pooled")
