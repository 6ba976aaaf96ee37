"""Precision at a threshold that shadow models have chosen."""

from __future__ import annotations

import numpy as np
import pytest

from advunlearn.evaluation.metrics import clopper_pearson
from advunlearn.evaluation.operating import operating_point, precision, threshold_of


@pytest.mark.parametrize(
    ("tpr", "fpr", "prior", "expected"),
    [
        (0.5, 0.01, 0.01, 0.005 / (0.005 + 0.0099)),
        (0.5, 0.01, 0.5, 0.5 / 0.51),
        (0.02, 0.02, 0.1, 0.1),  # an attack that guesses: the prior
        (0.3, 0.0, 0.01, 1.0),
        (0.0, 0.1, 0.5, 0.0),
    ],
)
def test_precision_is_bayes_rule(tpr: float, fpr: float, prior: float, expected: float) -> None:
    assert precision(tpr, fpr, prior) == pytest.approx(expected)
    assert precision(0.0, 0.0, prior) is None


def test_at_most_one_percent_of_the_shadow_models_scores_lie_above_the_threshold() -> None:
    scores = [np.arange(0.0, 200.0), np.arange(200.0, 300.0)]
    assert threshold_of(scores) == {"value": 296.0, "models": 2, "scores": 300}
    assert (np.concatenate(scores) > 296).sum() == 3
    found = threshold_of([np.array([1.0] * 97 + [5.0] * 3)])  # a tie: no smaller threshold is below 1 %
    assert found is not None
    assert found["value"] == 5
    few = threshold_of([np.arange(50.0)])
    assert few is not None
    assert few["value"] == 49
    assert threshold_of([]) is None
    assert threshold_of([np.array([1.0, np.inf])]) is None


def test_the_rates_are_those_of_the_scores_above_it_and_bound_the_precision() -> None:
    scores = np.array([3.0, 2.0, 0.0, np.nan, 1.0] + [2.0] * 2 + [0.0] * 18)
    members = np.arange(25) < 5
    found = operating_point(scores, members, {"value": 1.0, "models": 4, "scores": 300})
    assert (found["tpr"], found["fpr"], found["threshold"]) == (0.5, 0.1, 1.0)  # 2 of 4; a score of 1 is not above 1
    assert (found["tpr_low"], found["tpr_high"]) == pytest.approx(clopper_pearson(2, 4))
    assert found["precision_at_prior_0.1"] == pytest.approx(0.05 / (0.05 + 0.09))
    (low, high), (least, most) = clopper_pearson(2, 4, 0.975), clopper_pearson(2, 20, 0.975)
    assert found["precision_at_prior_0.5_low"] == pytest.approx(low / (low + most))
    assert found["precision_at_prior_0.5_high"] == pytest.approx(high / (high + least))


def test_without_a_positive_there_is_no_precision_and_anything_is_possible() -> None:
    found = operating_point(np.zeros(20), np.arange(20) < 10, {"value": 1.0, "models": 4, "scores": 300})
    assert found["precision_at_prior_0.01"] is None
    assert (found["precision_at_prior_0.01_low"], found["precision_at_prior_0.01_high"]) == (0, 1)
