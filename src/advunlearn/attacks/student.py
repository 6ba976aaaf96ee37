"""Student's t for the margins of few models: each example's variance, with a prior that all examples give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advunlearn.runtime.arrays import Floats, Mask

LARGEST_SHAPE = 1e6  # of the prior: with it, all examples have practically the same variance


@dataclass(frozen=True)
class VariancePrior:
    """The inverse-gamma distribution of examples' variances, with `shape` > 2 and `scale`.

    Its mean is scale / (shape - 1). Both are arrays that broadcast over examples.
    """

    shape: Floats
    scale: Floats


def variance_prior(squares: Floats, freedom: Floats) -> VariancePrior:
    """Return the prior whose mean and variance are those of the examples' true variances: empirical Bayes.

    The observed variances s^2 = squares / freedom vary more than the true ones, by 2 sigma^4 / freedom each. So, with m
    and w the mean and the variance of s^2 and h the mean of 1 / freedom, the variance of the true ones is v = (w - 2 h
    m^2) / (1 + 2 h). The inverse gamma with this mean and variance has shape 2 + m^2 / v and scale m (shape - 1).

    Args:
        squares: (..., n, q), sums of squared residuals about each example's mean.
        freedom: broadcasts with it: their degrees of freedom; an example with none is left out.

    Returns:
        The prior, (..., 1, 1). Without any example with a degree of freedom its scale is NaN.

    References:
        [brannvall2026] R. Brannvall, "Exponential-Family Membership Inference: From LiRA and RMIA to BaVarIA", 2026.
            https://arxiv.org/abs/2603.11799 (the conjugate normal-inverse-gamma prior of a likelihood-ratio attack; its
            parameters by empirical Bayes are this project's)
    """
    squares, freedom = np.broadcast_arrays(squares, freedom)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.where(freedom > 0, squares / freedom, np.nan)
        inverse = np.where(freedom > 0, 1 / freedom, np.nan)
    known: Mask = np.asarray((freedom > 0).any((-2, -1), keepdims=True))
    m, h = (_mean(each, known) for each in (observed, inverse))
    w = _mean((observed - m) ** 2, known)
    v = np.maximum((w - 2 * h * m**2) / (1 + 2 * h), m**2 / LARGEST_SHAPE)
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = np.where(v > 0, 2 + m**2 / v, LARGEST_SHAPE)
    return VariancePrior(shape, m * (shape - 1))


@dataclass(frozen=True)
class Predictive:
    """The distribution of the margin of one more model: Student's t, per example.

    Attributes:
        freedom, center, scale: of the distribution, of shapes that broadcast with the margins.
    """

    freedom: Floats
    center: Floats
    scale: Floats

    def logpdf(self, margins: Floats) -> Floats:
        """Return the logarithm of the density at these margins."""
        from scipy.stats import t

        return np.asarray(t.logpdf(margins, self.freedom, self.center, self.scale))

    def logcdf(self, margins: Floats) -> Floats:
        """Return the logarithm of the probability of a smaller margin."""
        from scipy.stats import t

        return np.asarray(t.logcdf(margins, self.freedom, self.center, self.scale))


def predictive(
    center: Floats, count: Floats, squares: Floats, freedom: Floats, prior: VariancePrior, floor: float
) -> Predictive:
    """Return the distribution of a further margin, of the same example under another model.

    With a flat prior of the mean, the posterior of the variance is an inverse gamma of shape a = shape + freedom / 2
    and scale b = scale + squares / 2, and a further margin has Student's t distribution with 2 a degrees of freedom,
    about `center`, with the squared scale b / a (1 + 1 / count).

    Args:
        center: (..., n, q), the mean of the margins of `count` (..., n, 1) models.
        squares, freedom: sum of squared residuals and its degrees of freedom, of these models, or of them and others
            that share the variance.
        prior: of the variance.
        floor: added to the scale.
    """
    shape, scale = prior.shape + freedom / 2, prior.scale + squares / 2
    return Predictive(2 * shape, center, np.sqrt(scale / shape * (1 + 1 / count)) + floor)


def _mean(values: Floats, known: Mask) -> Floats:
    """Return the mean over examples and queries without NaN; NaN where nothing is known."""
    total = np.nansum(values, axis=(-2, -1), keepdims=True)
    return np.where(known, total / np.maximum((~np.isnan(values)).sum((-2, -1), keepdims=True), 1), np.nan)
