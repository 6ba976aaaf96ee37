from __future__ import annotations

import numpy as np
import pytest

from advunlearn.shadows.memorization import confidence, difficulty, known_mean, memorization
from advunlearn.shadows.outputs import ShadowOutputs


def outputs(answers: list[list[float]], membership: list[list[int]]) -> ShadowOutputs:
    """Return models whose logits of two classes are (x, 0) for each answer x; positive: class 0."""
    first = np.array(answers, np.float32)
    logits = np.stack([first, np.zeros_like(first)], axis=-1)[:, :, None]
    return ShadowOutputs(logits, np.array(membership, bool), logits[:, :0])


LABELS = np.zeros(4, np.int64)
# Four models: the first two are trained on the examples 0, 1 and 3, the others on example 2.
IN = [[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]]


def test_memorization_is_the_accuracy_of_models_in_less_that_of_models_out() -> None:
    found = memorization(outputs([[1, 1, 1, 1], [1, 1, -1, 1], [-1, 1, 1, -1], [-1, 1, -1, 1]], IN), LABELS)
    assert found.tolist() == [1.0, 0.0, 0.0, 0.5]


def test_an_example_that_no_model_saw_has_no_memorization() -> None:
    found = memorization(outputs([[1, 1], [1, 1]], [[1, 0], [0, 0]]), LABELS[:2])
    assert np.isnan(found).tolist() == [False, True]
    assert known_mean(found) == 0.0
    assert known_mean(found[1:]) is None


def test_equal_memorization_is_ordered_by_the_probability_of_the_label() -> None:
    models = outputs([[9, 1, 1, 1], [9, 1, 1, 2], [-1, 1, 1, 1], [-1, 1, 1, 1]], IN)
    assert difficulty(models, LABELS)[[0, 3]].tolist() == [3.0, 2.0]


def test_confidence_is_the_softmax_of_the_label() -> None:
    logits = np.log(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32))
    assert confidence(logits, np.array([1, 0])).tolist() == pytest.approx([0.8, 0.5])
