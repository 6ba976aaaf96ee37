"""Statistics of a model's output, against peers and 60-digit arithmetic."""

from __future__ import annotations

import time
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

from advunlearn.attacks.statistics import confidence, cross_entropy, entropy, logit_margin, modified_entropy

GOLDEN = Path(__file__).parents[1] / "golden"
STATISTICS = np.load(GOLDEN / "statistics.npz")
ENTROPY = np.load(GOLDEN / "entropy.npz")
EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.mark.parametrize("peer", ["tfp_logit", "carlini_logit", "exact_margin"])
def test_logit_margin_is_the_peers(peer: str) -> None:
    found = logit_margin(STATISTICS["base64_logits"], STATISTICS["base64_labels"])
    np.testing.assert_allclose(found, STATISTICS[f"base64_{peer}"], **EXACT)


def test_logit_margin_is_exact_where_the_peers_saturate() -> None:
    found = logit_margin(STATISTICS["edge64_logits"], STATISTICS["edge64_labels"])
    np.testing.assert_allclose(found, STATISTICS["edge64_exact_margin"], **EXACT)
    assert np.abs(found).max() > 104 > np.abs(STATISTICS["edge64_tfp_logit"]).max()


def test_float32_logits_are_worked_on_in_float64() -> None:
    found = logit_margin(STATISTICS["base32_logits"], STATISTICS["base32_labels"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, STATISTICS["base32_tfp_logit"], rtol=0, atol=1e-5)


def test_cross_entropy_and_confidence_are_the_peers() -> None:
    logits, labels = STATISTICS["base64_logits"], STATISTICS["base64_labels"]
    clamped = STATISTICS["base64_tfp_xe"] < 18  # the peer clamps p at 1e-8
    np.testing.assert_allclose(cross_entropy(logits, labels)[clamped], STATISTICS["base64_tfp_xe"][clamped], **EXACT)
    np.testing.assert_allclose(confidence(logits, labels), STATISTICS["base64_tfp_conf_prob"], **EXACT)


def test_entropies_are_the_peers() -> None:
    logits, labels = ENTROPY["logits"], ENTROPY["labels"]
    for peer in ("tfp", "sm"):
        np.testing.assert_allclose(entropy(logits), ENTROPY[f"{peer}_entropy"], **EXACT)
        np.testing.assert_allclose(modified_entropy(logits, labels), ENTROPY[f"{peer}_mentropy"], **EXACT)


def test_modified_entropy_differs_from_the_peer_that_is_wrong() -> None:
    found = modified_entropy(ENTROPY["logits"], ENTROPY["labels"])
    assert np.abs(found - ENTROPY["salun_svc_mentropy_AS_SHIPPED"]).max() > 0.1


def exact_modified_entropy(logits: np.ndarray, label: int) -> float:
    """Return equation 8 as it is written, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        powers = [Decimal(float(each)).exp() for each in logits]
        shares = [each / sum(powers) for each in powers]
        rests = [sum(shares[:j] + shares[j + 1 :]) for j in range(len(shares))]
        wrong = sum(shares[j] * rests[j].ln() for j in range(len(shares)) if j != label)
        return float(-rests[label] * shares[label].ln() - wrong)


@pytest.mark.parametrize("scale", [0.1, 1, 10, 40])
def test_modified_entropy_is_exact_however_sure_the_model_is(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits, labels = scale * rng.normal(size=(40, 12)), rng.integers(0, 12, 40)
    labels[:20] = logits[:20].argmax(1)
    expected = [exact_modified_entropy(*each) for each in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(modified_entropy(logits, labels), expected, rtol=1e-12)


def test_the_statistics_of_1000_classes_take_no_longer_than_their_logits_warrant() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(1000, 1000)), rng.integers(0, 1000, 1000)
    start = time.perf_counter()
    modified_entropy(logits, labels)
    assert time.perf_counter() - start < 5  # 0.2 s; class by class it is 20 s


def test_a_constant_added_to_all_logits_and_a_permutation_of_classes_change_nothing() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 5 * rng.normal(size=(40, 7)), rng.integers(0, 7, 40)
    order = rng.permutation(7)
    places = np.argsort(order)[labels]
    for statistic in (logit_margin, cross_entropy, modified_entropy):
        expected = statistic(logits, labels)
        np.testing.assert_allclose(statistic(logits + 1000, labels), expected, rtol=1e-9)
        np.testing.assert_allclose(statistic(logits[:, order], places), expected, rtol=1e-9)
    np.testing.assert_allclose(entropy(logits + 1000), entropy(logits), rtol=1e-9)


def test_extreme_logits_stay_finite_and_right() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    labels = np.array([0, 0])
    np.testing.assert_allclose(logit_margin(logits, labels), [1e4, -2e4])
    np.testing.assert_allclose(cross_entropy(logits, labels), [0, 2e4])
    np.testing.assert_allclose(entropy(logits), [0, 0], atol=1e-300)
    np.testing.assert_allclose(
        modified_entropy(logits, labels), [0, 2e4 + 1e4]
    )  # -log p_y, and -log(1 - p) of the class that has nearly all


def test_a_masked_class_counts_for_nothing() -> None:
    logits = np.array([[1.0, 2.0, -np.inf]])
    assert logit_margin(logits, [0])[0] == pytest.approx(-1)
    assert entropy(logits)[0] == pytest.approx(entropy(logits[:, :2])[0])
    assert logit_margin([[1.0, -np.inf]], [0])[0] == np.inf
    assert cross_entropy([[1.0, -np.inf]], [0])[0] == 0


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([[np.nan, 1.0]], [0], "NaN"),
        ([[np.inf, 1.0]], [0], "inf"),
        ([[1.0, 2.0]], [2], "label"),
        ([[1.0, 2.0]], [0, 1], "label"),
        ([[1.0]], [0], "two classes"),
        ([[-np.inf, 1.0]], [0], "inf"),
    ],
)
def test_bad_input_is_refused(logits: list[list[float]], labels: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        logit_margin(logits, labels)
