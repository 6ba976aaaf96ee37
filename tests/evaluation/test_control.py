"""The audit of the audit: honest retrained models pass it in 95 of 100, planted defects do not.

The models are tiny: random features and a ridge regression. Retraining draws the features anew.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from advunlearn.evaluation.control import control, joint, probe
from advunlearn.evaluation.further_metrics import Control, Probe
from advunlearn.evaluation.metrics import auc_interval

Array = np.ndarray
RUNS = 100
FORGET, TEST = 60, 90
MEMBERS = np.arange(FORGET + TEST) < FORGET


def examples(count: int, rng: np.random.Generator, noise: float = 0.1) -> tuple[Array, Array]:
    """Draw inputs and labels of two classes, a share of them wrong."""
    inputs = rng.normal(size=(count, 5))
    labels = np.sign(inputs[:, 0])
    return inputs, np.where(rng.random(count) < noise, -labels, labels)


def losses(train: tuple[Array, Array], asked: tuple[Array, Array], rng: np.random.Generator) -> Array:
    """Return the logistic losses of a model that is trained from random weights."""
    weights = rng.normal(size=(6, 200))

    def features(inputs: Array) -> Array:
        return np.maximum(np.column_stack([inputs, np.ones(len(inputs))]) @ weights, 0)

    hidden = features(train[0])
    fitted = np.linalg.solve(hidden.T @ hidden + 0.1 * np.eye(200), hidden.T @ train[1])
    return np.logaddexp(0, -4 * asked[1] * (features(asked[0]) @ fitted))


@cache
def audits(defect: str, models: int = 3) -> list[tuple[Probe, Control]]:
    """Return the probes and the controls of many runs, each with data, splits and retrained models of its own."""
    found = []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        retain, forget = examples(60, rng), examples(FORGET, rng)
        test = examples(TEST, rng, noise=0.8 if defect == "another distribution" else 0.1)
        asked = np.concatenate([forget[0], test[0]]), np.concatenate([forget[1], test[1]])
        seen = np.concatenate([retain[0], forget[0]]), np.concatenate([retain[1], forget[1]])
        scores = []
        for number in range(models):
            saw = (defect == "candidate saw it" and number == models - 1) or defect == "all saw it"
            loss = losses(seen if saw else retain, asked, rng)
            scores.append({"loss": -loss, "confidence": np.exp(-loss) + 0.05 * rng.normal(size=len(loss))})
        *references, candidate = scores
        probed = probe(references[0], MEMBERS)
        found.append((probed, control(candidate, references, MEMBERS, alike=not probed["void"])))
    return found


def test_honest_retrained_models_pass_in_95_of_100() -> None:
    least, _ = binom.interval(0.999, RUNS, 0.95)  # the attacks are alike, so that joint intervals hold more often
    assert sum(not found["failed"] for _, found in audits("")) >= least
    assert sum(not found["void"] for found, _ in audits("")) >= least


def test_under_one_attack_alone_the_level_is_exact() -> None:
    held, runs = 0, 200
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        easy = rng.normal(size=len(MEMBERS))
        first, second, third = ({"loss": easy + rng.normal(size=len(easy))} for _ in range(3))
        held += not control(third, [first, second], MEMBERS, alike=True)["failed"]
    least, most = binom.interval(0.999, runs, 0.95)
    assert least <= held <= most


def test_a_retrained_model_that_saw_the_forget_set_fails() -> None:
    found = [judged for _, judged in audits("candidate saw it")]
    assert sum(bool(each["failed"]) for each in found) > 0.9 * RUNS
    assert all(each["attacks"]["loss"]["difference"] > 0 for each in found if "loss" in each["failed"])


@pytest.mark.parametrize("defect", ["another distribution", "all saw it"])
def test_a_test_set_of_another_distribution_and_models_that_all_saw_the_forget_set_void_one_half(defect: str) -> None:
    assert sum(bool(found["void"]) for found, _ in audits(defect)) > 0.9 * RUNS


def test_where_one_half_is_void_retrained_models_still_pass() -> None:
    """Some of them tell the two sets apart better than others, so that intervals over examples alone are too narrow."""
    passed, by_examples, runs = 0, 0, 150
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        easy = rng.normal(size=len(MEMBERS))
        tilt = 0.5 + 0.4 * rng.normal(size=4)
        models = [{"loss": easy + each * MEMBERS + 0.3 * rng.normal(size=len(easy))} for each in tilt]
        judged = [control(models[3], models[:3], MEMBERS, alike=alike) for alike in (False, True)]
        passed += not judged[0]["failed"]
        by_examples += not judged[1]["failed"]
    least, _ = binom.interval(0.999, runs, 0.95)
    assert by_examples < least <= passed


def test_the_numbers_are_those_of_the_models() -> None:
    rng = np.random.default_rng(0)
    one, two, three = (rng.normal(size=len(MEMBERS)) for _ in range(3))
    aucs = [auc_interval(each[MEMBERS], each[~MEMBERS])[0] for each in (one, two, three)]
    found = control({"a": three, "b": three}, [{"a": one, "b": three}, {"a": two, "b": three}], MEMBERS, alike=True)
    first, second = found["attacks"]["a"], found["attacks"]["b"]
    assert (first["auc"], first["reference"]) == pytest.approx((aucs[2], (aucs[0] + aucs[1]) / 2))
    assert first["spread"] == pytest.approx(abs(aucs[0] - aucs[1]) / 2**0.5)
    assert first["difference"] == pytest.approx(first["auc"] - first["reference"])
    assert (second["difference"], second["low"], second["high"]) == (0, 0, 0)
    assert found["models"] == 3
    assert (joint(1), joint(5)) == pytest.approx((0.95, 0.99))


def test_an_example_without_a_score_is_left_out() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=len(MEMBERS)) for _ in range(3)]
    for each in scores:
        each[[0, 100]] = np.nan
    kept = ~np.isnan(scores[0])
    for wanted, found in zip(
        (probe({"a": scores[0][kept]}, MEMBERS[kept]), _judged([each[kept] for each in scores], MEMBERS[kept])),
        (probe({"a": scores[0]}, MEMBERS), _judged(scores, MEMBERS)),
        strict=True,
    ):
        assert wanted == found


def _judged(scores: list[Array], members: Array) -> Control:
    first, second, third = ({"a": each} for each in scores)
    return control(third, [first, second], members, alike=False)
