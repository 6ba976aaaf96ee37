"""What every attack says where there is nothing to find, and where what there is to find is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from advunlearn.attacks.attack import Attack, Observations, Outputs
from advunlearn.attacks.classifier import Classifier
from advunlearn.attacks.lira import LiRA
from advunlearn.attacks.mia_efficacy import MiaEfficacy
from advunlearn.attacks.threshold import Threshold
from advunlearn.evaluation.metrics import auc_interval
from advunlearn.shadows.outputs import ShadowOutputs


def ten_classes(count: int, rng: np.random.Generator) -> Outputs:
    labels = rng.integers(0, 10, count)
    logits = rng.normal(size=(count, 1, 10))
    logits[np.arange(count), 0, labels] += 3
    return Outputs(logits.astype(np.float32), labels)


def target_of(members: int, others: int, rng: np.random.Generator) -> Observations:
    """Draw members and non-members alike, in random order."""
    said, inside = ten_classes(members + others, rng), rng.permutation(np.arange(members + others) < members)
    return Observations(said.logits, said.labels, inside, ten_classes(others, rng), ten_classes(200, rng))


def shadows_of(target: Observations, rng: np.random.Generator) -> ShadowOutputs:
    """Draw eight shadow models, four of which saw each example: membership in them says nothing of the target's."""
    n = len(target.labels)
    noise = rng.normal(size=(8, *target.logits.shape)).astype(np.float32)
    membership = rng.permuted(np.tile(np.arange(8)[:, None] < 4, n), axis=0)
    return ShadowOutputs(target.logits + noise, membership, np.empty((8, 0, 1, 10), np.float32))


@pytest.mark.parametrize(
    ("attack", "runs", "members", "others"),
    [
        (Threshold(), 100, 50, 150),
        (LiRA(), 100, 50, 150),
        (Classifier(), 100, 50, 150),
        (Classifier(model="svm"), 50, 50, 150),
        (Classifier(model="boosting", folds=2), 30, 30, 60),
        (MiaEfficacy(), 100, 40, 80),
    ],
    ids=["threshold", "lira", "logistic", "svm", "boosting", "mia_efficacy"],
)
def test_the_95_percent_interval_holds_one_half_in_95_of_100(
    attack: Attack, runs: int, members: int, others: int
) -> None:
    held: dict[str, int] = {}
    aucs: dict[str, list[float]] = {}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        target = target_of(members, others, rng)
        shadows = shadows_of(target, rng) if attack.needs_shadows else None
        for name, score in attack.score(target, shadows, rng).items():
            positive, negative = score[target.members], score[~target.members]
            auc, low, high, _ = auc_interval(positive, negative, cross_fitted=attack.cross_fitted)
            aucs.setdefault(name, []).append(auc)
            held[name] = held.get(name, 0) + (low <= 0.5 <= high)
    least, most = binom.interval(0.999, runs, 0.95)  # of 100: 87 to 100, of 50: 41 to 50, of 30: 23 to 30
    assert all(least <= count <= most for count in held.values()), held
    for found in aucs.values():  # of chance, a class that has more members here gives nothing away
        assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(runs))


def test_without_its_correction_the_classifiers_interval_is_too_narrow() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels, inside = np.zeros(200, int), np.arange(200) < 50
        target = Observations(rng.normal(size=(200, 1, 10)).astype(np.float32), labels, inside)
        score = Classifier().score(target, None, rng)[""]
        _, low, high, _ = auc_interval(score[inside], score[~inside])
        held += low <= 0.5 <= high
    assert held <= binom.ppf(0.01, 60, 0.95)


@pytest.mark.parametrize(
    "attack", [Threshold(), Classifier(), Classifier(model="svm")], ids=["threshold", "logistic", "svm"]
)
@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_a_known_shift_gives_the_analytic_auc(attack: Attack, shift: float) -> None:
    rng, count = np.random.default_rng(0), 2000
    members = np.arange(2 * count) < count
    margins = rng.normal(size=2 * count) + shift * members
    logits = np.stack([margins, np.zeros(2 * count)], axis=1)[:, None].astype(np.float32)
    target = Observations(logits, np.zeros(2 * count, int), members)
    score = attack.score(target, None, rng)[""]
    auc, *_ = auc_interval(score[members], score[~members])
    assert auc == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=4 * 0.5 / np.sqrt(3 * count / 2))  # null deviation
