"""Student's t for few models: closed forms, recovery of a known prior, and limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import invgamma, norm, t

from advunlearn.attacks.lira import FLOOR, LiRA, log_likelihood_ratio
from advunlearn.attacks.student import VariancePrior, predictive, variance_prior
from advunlearn.options import OptionError


def test_the_predictive_is_the_normal_integrated_over_its_posterior() -> None:
    margins, prior = np.array([0.3, 1.1, -0.4]), (3.0, 1.5)
    squares = float(((margins - margins.mean()) ** 2).sum())
    one = np.ones((1, 1))
    law = predictive(
        margins.mean() * one, 3 * one, squares * one, 2 * one, VariancePrior(prior[0] * one, prior[1] * one), 0.0
    )
    posterior = invgamma(prior[0] + 1, scale=prior[1] + squares / 2)

    def density(value: float) -> float:
        def of_variance(variance: float) -> float:
            # Under a flat prior of the mean, a further margin is normal with variance (1 + 1/n) sigma^2.
            return float(norm.pdf(value, margins.mean(), np.sqrt(variance * 4 / 3)) * posterior.pdf(variance))

        return float(quad(of_variance, 0, 60, limit=400)[0])

    for value in (-1.0, 0.5, 2.0):
        assert np.exp(law.logpdf(np.array([[value]]))).item() == pytest.approx(density(value), rel=1e-5)
    assert np.exp(law.logcdf(margins.mean() * one)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("models", [3, 8])
def test_the_prior_of_simulated_examples_is_recovered(models: int) -> None:
    rng = np.random.default_rng(0)
    shape, scale, n = 4.0, 6.0, 400_000
    deviations = np.sqrt(invgamma(shape, scale=scale).rvs(n, random_state=rng))
    margins = deviations * rng.normal(size=(models, n))
    squares = ((margins - margins.mean(0)) ** 2).sum(0)[:, None]
    found = variance_prior(squares, np.full((n, 1), models - 1.0))
    assert found.scale.item() / (found.shape.item() - 1) == pytest.approx(scale / (shape - 1), rel=0.02)
    assert found.shape.item() == pytest.approx(shape, rel=0.25)


def test_examples_of_one_variance_have_a_narrow_prior() -> None:
    rng = np.random.default_rng(1)
    squares = 2.0 * rng.chisquare(3, size=(2000, 1))
    found = variance_prior(squares, np.full((2000, 1), 3.0))
    assert found.shape.item() > 50
    assert found.scale.item() / (found.shape.item() - 1) == pytest.approx(2.0, rel=0.1)


def test_examples_without_a_degree_of_freedom_do_not_count() -> None:
    squares, freedom = np.array([[1.0], [3.0], [0.0]]), np.array([[1.0], [1.0], [0.0]])
    found = variance_prior(squares, freedom)
    assert found.scale.item() / (found.shape.item() - 1) == pytest.approx(2.0)
    assert np.isnan(variance_prior(np.zeros((3, 1)), np.zeros((3, 1))).scale).all()


def two_sides(n: int, examples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    membership = np.repeat(np.arange(2 * n)[:, None] < n, examples, 1)
    margins = rng.normal(size=(2 * n, examples, 1)) * np.exp(rng.normal(0, 0.4, (examples, 1))) + membership[..., None]
    return rng.normal(size=(examples, 1)), margins, membership


@pytest.mark.parametrize("variance", ["student_t", "pooled_t"])
def test_the_ratio_is_that_of_the_two_predictives(variance: str) -> None:
    target, margins, membership = two_sides(4, 30)
    found = log_likelihood_ratio(target, margins, membership, center="mean", variance=variance)
    sides = [margins[:4, :, 0], margins[4:, :, 0]]
    squares = [((side - side.mean(0)) ** 2).sum(0) for side in sides]
    freedom = [3, 3]
    if variance == "pooled_t":
        squares, freedom = [squares[0] + squares[1]] * 2, [6, 6]
    expected = []
    for side, square, free in zip(sides, squares, freedom, strict=True):
        observed = square / free
        m, w, h = observed.mean(), observed.var(), 1 / free
        v = max((w - 2 * h * m**2) / (1 + 2 * h), m**2 / 1e6)
        shape = 2 + m**2 / v
        a, b = shape + free / 2, m * (shape - 1) + square / 2
        expected.append(t.logpdf(target[:, 0], 2 * a, side.mean(0), np.sqrt(b / a * 1.25) + FLOOR))
    assert found == pytest.approx(expected[0] - expected[1], rel=1e-9)


def test_many_models_make_it_the_normal_ratio_of_each_example() -> None:
    target, margins, membership = two_sides(3000, 20)
    found = log_likelihood_ratio(target, margins, membership, center="mean", variance="student_t")
    normal = log_likelihood_ratio(target, margins, membership, center="mean", variance="per_example")
    assert found == pytest.approx(normal, abs=0.02)


def test_one_model_a_side_is_the_fixed_variance() -> None:
    target, margins, membership = two_sides(1, 20)
    found = log_likelihood_ratio(target, margins, membership, variance="student_t")
    assert np.array_equal(found, log_likelihood_ratio(target, margins, membership, variance="fixed"))


def test_offline_has_no_variance_of_both_sides() -> None:
    with pytest.raises(OptionError, match="variance=pooled_t needs models that saw the example"):
        LiRA(mode="offline", variance="pooled_t")
