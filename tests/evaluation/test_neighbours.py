"""Neighbour classes: distances by hand, and a null that retrained models with a taste of their own pass."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from advunlearn.evaluation.neighbours import distances, floor, nearest_other, neighbour_distance, shares

Array = np.ndarray


def tastes(models: int, rng: np.random.Generator) -> Array:
    """Draw the assignments of models that each prefer some neighbour classes for all examples."""
    preferred = rng.dirichlet([5, 3, 2], size=models)
    return np.stack([rng.choice(3, size=60, p=each) for each in preferred])


def test_a_forgotten_class_is_no_neighbour() -> None:
    logits = np.array([[9, 1, 2, 0], [0, 9, 3, 1], [8, 7, -2, -1]], np.float32)
    assert nearest_other(logits, np.array([0])).tolist() == [2, 1, 1]
    assert nearest_other(logits, np.array([0, 1])).tolist() == [2, 2, 3]
    with pytest.raises(ValueError, match="all classes are forgotten"):
        nearest_other(logits, np.arange(4))


def test_the_distance_is_half_the_sum_of_the_differences() -> None:
    references = np.array([[1, 1, 1, 2], [1, 1, 2, 2]])  # 5/8 and 3/8
    candidate = np.array([1, 3, 3, 2])  # 1/4, 1/4 and 1/2
    np.testing.assert_allclose(shares(candidate, 4), [0, 0.25, 0.25, 0.5])
    found = neighbour_distance(candidate, references, 4, seed=0)
    assert found["distance"] == pytest.approx((3 / 8 + 1 / 8 + 4 / 8) / 2)
    np.testing.assert_allclose(
        distances(np.vstack([candidate, references]), 4), [0.5, 0.375, 0.25]
    )  # 3/4 and 1/4; then 1/2 and 1/2
    assert found["p_value"] == pytest.approx(1 / 3)


def test_equal_models_have_no_distance_and_one_reference_shows_nothing() -> None:
    same = np.array([0, 1, 2, 2])
    assert neighbour_distance(same, np.stack([same, same]), 3, seed=0) == {
        "distance": 0,
        "null_high": 0,
        "p_value": 1,
    }
    assert neighbour_distance(same, np.array([[2, 2, 0, 0]]), 3, seed=0)["p_value"] == 1


def test_of_retrained_models_the_p_value_is_exact_and_that_of_examples_would_not_be() -> None:
    small, beyond, runs = 0, 0, 200
    for seed in range(runs):
        assigned = tastes(10, np.random.default_rng(seed))
        found = neighbour_distance(assigned[0], assigned[1:], 3, seed=seed)
        small += found["p_value"] <= 0.1
        beyond += found["distance"] > found["null_high"]
    least, most = binom.interval(0.999, runs, 0.1)
    assert least <= small <= most
    assert beyond > binom.ppf(0.999, runs, 0.05)


def test_where_examples_are_independent_the_chance_of_examples_is_five_percent() -> None:
    beyond, runs = 0, 200
    for seed in range(runs):
        assigned = np.random.default_rng(seed).choice(3, size=(4, 60), p=[0.5, 0.3, 0.2])
        found = neighbour_distance(assigned[0], assigned[1:], 3, seed=seed)
        beyond += found["distance"] > found["null_high"]
    assert beyond <= binom.ppf(0.999, runs, 0.05)


def test_a_model_that_sends_a_class_elsewhere_is_found() -> None:
    references = tastes(19, np.random.default_rng(0))
    found = neighbour_distance(np.where(references[0] == 0, 2, references[0]), references, 3, seed=0)
    assert found["p_value"] == pytest.approx(1 / 20)
    assert found["distance"] > 2 * found["null_high"]
    assert found["distance"] > distances(references, 3).max() == floor(references, 3)
    assert floor(references[:2], 3) is None
