"""The threshold attacks and the trained classifier."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from advunlearn.attacks.attack import Observations
from advunlearn.attacks.classifier import Classifier
from advunlearn.attacks.threshold import Threshold


def observations(members: int, others: int, boost: float, seed: int, classes: int = 10) -> Observations:
    rng = np.random.default_rng(seed)
    n = members + others
    labels = np.arange(n) % classes
    logits = rng.normal(size=(n, 1, classes))
    logits[np.arange(n), 0, labels] += 4 + boost * (np.arange(n) < members)
    return Observations(logits.astype(np.float32), labels, np.arange(n) < members)


def test_every_threshold_score_is_larger_for_members() -> None:
    target = observations(100, 100, 2.0, 0)
    scores = Threshold().score(target, None, np.random.default_rng(0))
    assert list(scores) == ["", "confidence", "entropy", "modified_entropy"]
    for score in scores.values():
        assert roc_auc_score(target.members, score) > 0.8


def test_loss_and_confidence_rank_alike() -> None:
    target = observations(50, 50, 1.0, 1)
    scores = Threshold().score(target, None, np.random.default_rng(0))
    assert np.argsort(scores[""]).tolist() == np.argsort(scores["confidence"]).tolist()


def test_the_classifier_finds_what_the_loss_shows() -> None:
    target = observations(100, 300, 2.0, 0)
    score = Classifier().score(target, None, np.random.default_rng(0))[""]
    assert roc_auc_score(target.members, score) > 0.8
    assert score.min() > 0
    assert score.max() < 1


@pytest.mark.parametrize("members", [50, 150])
def test_a_classifier_that_cannot_know_scores_one_half(members: int) -> None:
    aucs = []
    for seed in range(40):  # forget sets hold the same share of every class, test sets nearly so
        target = observations(members, 300, 0.0, seed)
        aucs.append(roc_auc_score(target.members, Classifier().score(target, None, np.random.default_rng(seed))[""]))
    assert np.mean(aucs) == pytest.approx(0.5, abs=4 * np.std(aucs) / np.sqrt(40))


def test_one_member_a_class_is_spread_over_the_folds() -> None:
    labels = np.repeat(np.arange(10), 100)
    members = np.arange(1000) % 100 == 0
    logits = np.random.default_rng(0).normal(size=(1000, 1, 10)).astype(np.float32)
    score = Classifier().score(Observations(logits, labels, members), None, np.random.default_rng(0))[""]
    assert np.isfinite(score).all()


def test_too_few_members_for_the_folds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"attack\.classifier\.folds=5 needs as many members and non-members, got 3"):
        Classifier().score(observations(3, 20, 0.0, 0), None, np.random.default_rng(0))
