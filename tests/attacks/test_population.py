"""The population attack, against a peer and its own promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from advunlearn.attacks.attack import Observations, Outputs
from advunlearn.attacks.population import Population
from advunlearn.attacks.threshold import Threshold

PEER = np.load(Path(__file__).parents[1] / "golden" / "privacy_meter.npz")
RNG = np.random.default_rng(0)


def observed(margins: np.ndarray, population: np.ndarray) -> Observations:
    """Return what two-class models with these margins (n, q) and (z, q) of class 0 say."""
    logits = [np.stack([each, np.zeros_like(each)], axis=-1) for each in (margins, population)]
    labels = [np.zeros(len(each), dtype=np.int64) for each in logits]
    return Observations(logits[0], labels[0], np.arange(len(margins)) < 1, population=Outputs(logits[1], labels[1]))


def test_the_score_is_privacy_meters() -> None:
    margins = -np.log(np.expm1(PEER["loss"]))[:, None]
    found = Population().score(observed(margins, margins[~PEER["keep"][0]]), None, RNG)[""]
    np.testing.assert_allclose(1 - found, PEER["attack_p"], rtol=0, atol=1e-7)  # the peer's is float32


def test_a_score_is_one_minus_the_false_positive_rate() -> None:
    margins = np.random.default_rng(1).normal(size=(20000, 1))
    found = Population().score(observed(margins, np.random.default_rng(2).normal(size=(20000, 1))), None, RNG)[""]
    for rate in (0.01, 0.1, 0.5):
        assert (found >= 1 - rate).mean() == pytest.approx(rate, abs=5 * np.sqrt(2 * rate * (1 - rate) / 20000))


def test_it_ranks_as_the_loss_does() -> None:
    margins = np.random.default_rng(1).normal(size=(40, 1))
    target = observed(margins, np.linspace(-4, 4, 5000)[:, None])
    scores = [attack.score(target, None, RNG)[""] for attack in (Population(), Threshold())]
    assert rankdata(scores[0]).tolist() == rankdata(scores[1]).tolist()


def test_several_queries_are_averaged() -> None:
    margins, population = (np.random.default_rng(1).normal(size=(count, 3)) for count in (40, 70))
    each = [Population().score(observed(margins[:, [q]], population[:, [q]]), None, RNG)[""] for q in range(3)]
    found = Population().score(observed(margins, population), None, RNG)[""]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)


def test_a_population_is_needed() -> None:
    with pytest.raises(ValueError, match="population needs non-members other than the examples under attack, got none"):
        Population().score(observed(np.zeros((3, 1)), np.zeros((0, 1))), None, RNG)
    with pytest.raises(ValueError, match="population needs non-members"):
        Population().score(Observations(np.zeros((3, 1, 2)), np.zeros(3, int), np.arange(3) < 1), None, RNG)
