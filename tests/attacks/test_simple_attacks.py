"""The threshold attacks, the trained classifiers and SalUn's MIA-efficacy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from advunlearn.attacks.attack import Observations, Outputs
from advunlearn.attacks.classifier import MODELS, Classifier
from advunlearn.attacks.held_out import held_out_ranks
from advunlearn.attacks.mia_efficacy import MiaEfficacy
from advunlearn.attacks.statistics import confidence, entropy, modified_entropy
from advunlearn.attacks.threshold import Threshold, class_percentiles, per_class_thresholds
from advunlearn.runtime.arrays import Floats, Mask

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "entropy.npz")


def observations(members: int, others: int, boost: float, seed: int, classes: int = 10) -> Observations:
    rng = np.random.default_rng(seed)
    n = members + others
    labels = np.arange(n) % classes
    logits = rng.normal(size=(n, 1, classes))
    logits[np.arange(n), 0, labels] += 4 + boost * (np.arange(n) < members)
    return Observations(logits.astype(np.float32), labels, np.arange(n) < members)


def with_the_rest(target: Observations, retain: int, population: int, boost: float) -> Observations:
    """Add answers for retain examples, as confident as members are, and for a population."""
    known = observations(retain, population, boost, 99)
    parts = [Outputs(known.logits[side], known.labels[side]) for side in (known.members, ~known.members)]
    return Observations(target.logits, target.labels, target.members, *parts)


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


@pytest.mark.parametrize("model", MODELS)
def test_the_classifier_finds_what_the_loss_shows(model: str) -> None:
    target = observations(60, 120, 3.0, 0)
    score = Classifier(model=model).score(target, None, np.random.default_rng(0))[""]
    assert roc_auc_score(target.members, score) > 0.8
    assert score.min() > 0
    assert score.max() < 1


def test_one_member_per_class_is_spread_over_the_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.repeat(np.arange(10), 100)
    members = np.arange(1000) % 100 == 0
    logits = np.random.default_rng(0).normal(size=(1000, 1, 10)).astype(np.float32)
    counts = []

    def watched(decide: Callable[[Mask, Mask], Floats], *rest: Any) -> Floats:
        def count(seen: Mask, judged: Mask) -> Floats:
            counts.append((members[seen].sum(), members[judged].sum()))
            return decide(seen, judged)

        return held_out_ranks(count, *rest)

    monkeypatch.setattr("advunlearn.attacks.classifier.held_out_ranks", watched)
    score = Classifier().score(Observations(logits, labels, members), None, np.random.default_rng(0))[""]
    assert counts == [(8, 2)] * 5
    assert np.sort(score) == pytest.approx(np.repeat(np.arange(1, 201) / 201, 5))  # each rank once in every fold


def test_too_few_members_for_the_folds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"attack\.classifier\.folds=5 needs as many members and non-members, got 3"):
        Classifier().score(observations(3, 20, 0.0, 0), None, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "accuracy"), [("conf", "confidence"), ("negentropy", "entropy"), ("negmentropy", "mentropy")]
)
def test_thresholds_a_class_and_what_they_find_are_song_and_mittals(name: str, accuracy: str) -> None:
    labels, members = GOLDEN["labels"], GOLDEN["member"]
    statistic = {
        "conf": lambda logits: confidence(logits, labels),
        "negentropy": lambda logits: -entropy(logits),
        "negmentropy": lambda logits: -modified_entropy(logits, labels),
    }[name]
    shadow = statistic(np.log(GOLDEN["shadow_probs"]))
    thresholds = per_class_thresholds(shadow, labels, GOLDEN["shadow_member"], 10)
    np.testing.assert_allclose(thresholds, GOLDEN[f"thr_{name}"], rtol=1e-9, atol=1e-12)
    said = statistic(np.log(GOLDEN["probs"])) >= thresholds[labels]
    assert [said[members].mean(), (~said[~members]).mean()] == pytest.approx(GOLDEN[f"acc_{accuracy}"], abs=1e-12)


def test_of_equally_good_thresholds_the_peers_wins() -> None:
    inside, outside = GOLDEN["tie_tr"], GOLDEN["tie_te"]
    members = np.arange(10) < 5
    found = per_class_thresholds(np.concatenate([inside, outside]), np.zeros(10, int), members, 3)
    assert found[0] == GOLDEN["tie_threshold"]
    assert (found == found[0]).all()  # classes that were not seen have the threshold of all


def test_thresholds_need_both_sides() -> None:
    with pytest.raises(ValueError, match="members and non-members"):
        per_class_thresholds(np.ones(3), np.zeros(3, int), np.ones(3, bool), 1)


def test_class_percentiles_are_shares_of_the_own_class() -> None:
    population, classes = np.array([1.0, 2, 3, 4, 10, 20]), np.array([0, 0, 0, 0, 1, 1])
    scores, labels = np.array([0.5, 2, 2.5, 9, 9, 10, np.inf, 2.5]), np.array([0, 0, 0, 0, 1, 1, 1, 2])
    found = class_percentiles(scores, labels, population, classes)
    assert found.tolist() == [0, 0.375, 0.5, 1, 0, 0.25, 1, 2 / 6]  # nothing is known of class 2: all of the population
    with pytest.raises(ValueError, match="population"):
        class_percentiles(np.ones(2), np.zeros(2, int), np.empty(0), np.empty(0, int))


def test_thresholds_a_class_see_what_one_threshold_cannot() -> None:
    target = with_the_rest(observations(200, 200, 1.0, 0), 200, 400, 1.0)
    easy = np.array([0.0, 6.0] * 5)  # half of the classes are certain of all that they see

    def certain(answers: Outputs) -> np.ndarray:
        logits = answers.logits.copy()
        logits[np.arange(len(logits)), 0, answers.labels] += easy[answers.labels]
        return logits

    parts = [Outputs(certain(part), part.labels) for part in (target.retain, target.population) if part is not None]
    target = Observations(certain(target), target.labels, target.members, *parts)
    scores = Threshold().score(target, None, np.random.default_rng(0))
    one, each = (roc_auc_score(target.members, scores[name]) for name in ("modified_entropy", "per_class"))
    assert each > one + 0.05
    assert Threshold().figures(target)["per_class_balanced_accuracy"] > 0.6


def test_without_a_population_there_is_no_threshold_a_class() -> None:
    target = observations(20, 20, 1.0, 0)
    assert "per_class" not in Threshold().score(target, None, np.random.default_rng(0))
    assert Threshold().figures(target) == {}


def test_mia_efficacy_is_the_share_of_forget_examples_that_their_svm_rejects() -> None:
    target = with_the_rest(observations(40, 100, 1.0, 0), 150, 10, 1.0)
    assert target.retain is not None
    kept, seen = (confidence(each.logits[:, 0], each.labels)[:, None] for each in (target.retain, target))
    nonmembers = seen[~target.members]
    svm = SVC(C=3, gamma="auto", kernel="rbf").fit(np.r_[kept[:100], nonmembers], np.repeat([1, 0], 100))
    expected = 1 - svm.predict(seen[target.members]).mean()
    found = MiaEfficacy().figures(target)["forget_called_nonmembers"]
    assert found == expected
    assert 0 < found < 1
    forgotten = with_the_rest(observations(40, 100, -3.0, 0), 150, 10, 1.0)
    assert MiaEfficacy().figures(forgotten)["forget_called_nonmembers"] > found


def test_mia_efficacy_is_fitted_to_a_bounded_number_of_examples_taken_evenly() -> None:
    target = with_the_rest(observations(40, 100, 1.0, 0), 150, 10, 1.0)
    assert target.retain is not None
    kept, seen = (confidence(each.logits[:, 0], each.labels)[:, None] for each in (target.retain, target))
    few = seen[~target.members][::33]  # positions 0, 33, 66 and 99 of 100
    same = kept[[int(place * 149 / 99) for place in (0, 33, 66, 99)]]  # of the 100 of 150 that are as many as those
    svm = SVC(C=3, gamma="auto", kernel="rbf").fit(np.r_[same, few], np.repeat([1, 0], 4))
    expected = (svm.predict(seen[target.members]) == 0).mean()
    assert MiaEfficacy(examples=4).figures(target)["forget_called_nonmembers"] == expected
    for rng in (0, 1):
        bounded, all_of_them = (
            MiaEfficacy(examples=count).score(target, None, np.random.default_rng(rng))[""] for count in (100, 10**6)
        )
        np.testing.assert_array_equal(bounded, all_of_them)


def test_mia_efficacys_scores_are_larger_for_members_and_need_the_retain_set() -> None:
    target = with_the_rest(observations(100, 200, 2.0, 0), 50, 10, 2.0)  # fewer retain than test examples
    score = MiaEfficacy().score(target, None, np.random.default_rng(0))[""]
    assert roc_auc_score(target.members, score) > 0.7
    with pytest.raises(ValueError, match="mia_efficacy needs the model's outputs for the retain set"):
        MiaEfficacy().score(observations(20, 20, 0.0, 0), None, np.random.default_rng(0))
