"""The likelihood-ratio attack (Carlini et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import STDERR, Attack, Observations
from advunlearn.attacks.jackknife import jackknife_error
from advunlearn.attacks.statistics import query_margins
from advunlearn.attacks.student import predictive, variance_prior
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats, Mask
from advunlearn.shadows.outputs import ShadowOutputs

CENTERS = ("median", "mean")
VARIANCES = ("per_example", "fixed", "pooled", "student_t", "pooled_t")
SIDES = ("both", "out")
FLOOR = 1e-30  # added to every sigma, as the peers do: constant scores give the same density on both sides, and so 0


def log_likelihood_ratio(
    target: Floats,
    shadows: Floats,
    membership: Mask,
    *,
    center: str = "median",
    variance: str = "student_t",
    side: str = "both",
) -> Floats:
    """Return the log-likelihood ratios (n,), LARGE for members, the means over the queries; (m, n) of m models.

    An example that has no shadow model on a side that is needed gets NaN. Where no example has two of them on a side,
    all residuals are zero and so is sigma: the order of the ratios still counts, their size does not.

    Args:
        target: (n, q) logit margins of the attacked model on n examples, q queries each; or (m, n, q) of m models.
        shadows: (k, n, q), the same of k shadow models.
        membership: (k, n), True where the example is in the shadow model's training set.
        center: of each example's margins: `median` or `mean`.
        variance: `per_example` is each example's own on each side, where a side has fewer than two models the fixed
            one; `fixed` is that of all examples' residuals about their centres, IN and OUT apart; `pooled` is one an
            example over both sides. `student_t` and `pooled_t` have the prior that all examples give, and Student's t
            in place of the normal, with a variance an example on each side, or one over both; see `predictive`.
        side: `both` is the log-ratio of the two normal densities (algorithm 1); `out` is the one-sided log-probability
            of a smaller margin under OUT (equation 4), for shadow models that never saw the example.

    Raises:
        ValueError: for shapes that do not fit, NaN or infinite margins, and unknown options.
    """
    _check(target, shadows, membership, center, variance, side)
    sides = [_moments(shadows, inside, center) for inside in (membership, ~membership)]
    return _ratio(target, sides, variance, side)


def separation(margins: Floats, membership: Mask, *, center: str = "median", variance: str = "student_t") -> Floats:
    """Return how far the IN and the OUT models of each example (n,) lie apart: 0 or about 0 if they do not.

    It is the mean log-likelihood ratio of the IN models less that of the OUT models, by the densities of these same
    models: an estimate of the sum of the two Kullback-Leibler divergences, too large for few models. NaN for an example
    without a model on a side. See `log_likelihood_ratio` for arguments and errors.
    """
    _check(margins[0], margins, membership, center, variance, "both")
    sides = [_moments(margins, inside, center) for inside in (membership, ~membership)]
    ratios = _ratio(margins, sides, variance, "both")
    with np.errstate(invalid="ignore", divide="ignore"):
        inside, outside = (np.where(side, ratios, 0.0).sum(0) / side.sum(0) for side in (membership, ~membership))
    return np.asarray(inside - outside)


def ratio_error(
    target: Floats,
    shadows: Floats,
    membership: Mask,
    *,
    center: str = "median",
    variance: str = "student_t",
    side: str = "both",
) -> Floats:
    """Return the standard error (n,) of each log-likelihood ratio over shadow models; see `jackknife_error`.

    An example with fewer than two shadow models for a normal that is needed gets NaN. With `center=median` the errors
    are right on average and individually rough, as for any jackknife of a median. See `log_likelihood_ratio` for
    arguments and errors.
    """
    _check(target, shadows, membership, center, variance, side)
    sides = [_moments_without_each(shadows, inside, center) for inside in (membership, ~membership)]
    return jackknife_error(_ratio(target, sides, variance, side), membership)


@dataclass(frozen=True)
class _Moments:
    """Moments of the margins of the IN or OUT models, per example; a leading axis, if present, is the left-out model.

    Attributes:
        count: (..., n, 1) models.
        center: (..., n, q), NaN without models.
        total, squares: (..., n, q), the sums of the residuals about the centre and of their squares.
    """

    count: Floats
    center: Floats
    total: Floats
    squares: Floats


def _moments(margins: Floats, inside: Mask, center: str) -> _Moments:
    """Return the moments of margins (k, n, q) over the models that are `inside` (k, n)."""
    count = inside.sum(0)[:, None].astype(float)
    if center == "mean":
        with np.errstate(invalid="ignore"):
            middle = np.where(inside[..., None], margins, 0.0).sum(0) / count
    else:
        middle = _median(_in_order(margins, inside), count, np.full((1, *margins.shape[1:]), len(margins)))[0]
    residuals = np.where(inside[..., None], margins - middle, 0.0)
    return _Moments(count, middle, residuals.sum(0), (residuals**2).sum(0))


def _moments_without_each(margins: Floats, inside: Mask, center: str) -> _Moments:
    """Return the moments with each of the k models left out in turn, (k, n, q), in O(k log k) rather than O(k^2)."""
    whole = _moments(margins, inside, center)
    left_out = inside[..., None]
    residuals = np.where(left_out, margins - whole.center, 0.0)
    count = whole.count - left_out
    if center == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = whole.center + (whole.total - residuals) / count
    else:
        ranks = np.argsort(np.argsort(np.where(left_out, margins, np.inf), axis=0), axis=0)
        middle = _median(_in_order(margins, inside), count, np.where(left_out, ranks, len(margins)))
    # The remaining residuals, about a centre that has moved.
    moved = np.where(count > 0, middle - whole.center, 0.0)
    total = whole.total - residuals
    squares = whole.squares - residuals**2 - 2 * moved * total + count * moved**2
    return _Moments(count, middle, total - count * moved, squares)


def _in_order(margins: Floats, inside: Mask) -> Floats:
    """Return the margins (k, n, q) of the models `inside` in order, then NaN."""
    return np.sort(np.where(inside[..., None], margins, np.nan), axis=0)


def _median(in_order: Floats, count: Floats, skipped: NDArray[np.intp]) -> Floats:
    """Return the median (j, n, q) of `count` values (..., n, 1) in order, passing over place `skipped` (j, n, q)."""
    middle = []
    for place in ((count - 1) // 2, count // 2):
        at = place + (place >= skipped)
        middle.append(np.take_along_axis(in_order, at.clip(0, len(in_order) - 1).astype(np.intp), axis=0))
    return np.asarray(np.where(count > 0, (middle[0] + middle[1]) / 2, np.nan))


def _ratio(target: Floats, sides: list[_Moments], variance: str, side: str) -> Floats:
    """Return the log-likelihood ratio (..., n) of target (n, q) between the normals of the two sides."""
    # Where a side is empty every number of it is NaN, by design.
    with np.errstate(invalid="ignore", divide="ignore"):
        laws = _students(sides, variance) if variance.endswith("_t") else _normals(sides, variance)
        if side == "out":
            return np.asarray(laws[1].logcdf(target).mean(-1))
        return np.asarray((laws[0].logpdf(target) - laws[1].logpdf(target)).mean(-1))


def _normals(sides: list[_Moments], variance: str) -> list[Any]:
    """Return the normal distribution of the margins of each side."""
    from scipy.stats import norm

    sigmas = _sigmas(sides, variance)
    return [norm(moments.center, sigma + FLOOR) for moments, sigma in zip(sides, sigmas, strict=True)]


def _students(sides: list[_Moments], variance: str) -> list[Any]:
    """Return Student's t distribution of the margins of each side; normal ones if no variance is known."""
    sums = [_about_mean(moments) for moments in sides]
    if variance == "pooled_t":
        sums = [(sums[0][0] + sums[1][0], sums[0][1] + sums[1][1])] * 2
    laws: list[Any] = []
    for number, (moments, (squares, freedom)) in enumerate(zip(sides, sums, strict=True)):
        prior = variance_prior(squares, freedom)
        if np.isfinite(prior.scale).all():
            laws.append(predictive(moments.center, moments.count, squares, freedom, prior, FLOOR))
        else:
            laws.append(_normals(sides, "fixed")[number])
    return laws


def _about_mean(moments: _Moments) -> tuple[Floats, Floats]:
    """Return the sums of squared residuals about the mean, and their degrees of freedom."""
    squares = moments.squares - moments.total**2 / np.maximum(moments.count, 1)
    return np.maximum(squares, 0.0), np.maximum(moments.count - 1, 0.0)


def _sigmas(sides: list[_Moments], variance: str) -> list[Floats]:
    """Return sigma of each side, (..., n, q): the deviation (ddof 0) of residuals about their examples' centres."""
    fixed = [
        _deviation(
            moments.count.sum((-2, -1), keepdims=True) * moments.total.shape[-1],
            moments.total.sum((-2, -1), keepdims=True),
            moments.squares.sum((-2, -1), keepdims=True),
        )
        for moments in sides
    ]
    if variance == "fixed":
        return fixed
    if variance == "pooled":
        count = sides[0].count + sides[1].count
        both = _deviation(count, sides[0].total + sides[1].total, sides[0].squares + sides[1].squares)
        return [np.where(count > 2, both, sigma) for sigma in fixed]  # with one model a side every residual is zero
    return [
        np.where(moments.count > 1, _deviation(moments.count, moments.total, moments.squares), sigma)
        for moments, sigma in zip(sides, fixed, strict=True)
    ]


def _deviation(count: Floats, total: Floats, squares: Floats) -> Floats:
    """Return the standard deviation of `count` residuals from their sum and the sum of their squares."""
    return np.asarray(np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0)))


def _check(target: Floats, shadows: Floats, membership: Mask, center: str, variance: str, side: str) -> None:
    options = {"center": (center, CENTERS), "variance": (variance, VARIANCES), "side": (side, SIDES)}
    for name, (value, choices) in options.items():
        if value not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}, got {value}")
    if (
        target.ndim not in (2, 3)
        or shadows.ndim != 3
        or shadows.shape[1:] != target.shape[-2:]
        or membership.shape != shadows.shape[:2]
    ):
        raise UserError(
            "target (n, q) or (m, n, q), shadows (k, n, q) and membership (k, n) must fit together, got "
            f"{target.shape}, {shadows.shape} and {membership.shape}"
        )
    if len(shadows) == 0:
        raise UserError("at least one shadow model is needed, got none")
    if not (np.isfinite(target).all() and np.isfinite(shadows).all()):
        raise UserError("margins must be finite")


@dataclass
class LiRA(Attack):
    """Likelihood-ratio attack: is the margin more like those of shadow models trained on the example, or of the others?

    Attributes:
        mode: `online` compares the shadow models that saw the example with those that did not; `offline` uses only
            those that did not, one-sidedly.
        center: of each example's shadow margins.
        variance: see `log_likelihood_ratio`. The paper has `per_example`, and `fixed` for few models; `student_t` is at
            least as good as both for any number of shadow models (`scripts/lira_variances.py`).

    References:
        [carlini2022] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramer, "Membership Inference Attacks
            From First Principles", IEEE Symposium on Security and Privacy 2022. https://arxiv.org/abs/2112.03570
            (`online` is algorithm 1, `offline` equation 4; `pooled` is not in the paper)
        [brannvall2026] R. Brannvall, "Exponential-Family Membership Inference: From LiRA and RMIA to BaVarIA", 2026.
            https://arxiv.org/abs/2603.11799 (`student_t`)
    """

    mode: str = option("online", choices=("online", "offline"))
    center: str = option("median", choices=CENTERS)
    variance: str = option("student_t", choices=VARIANCES)

    needs_shadows: ClassVar[bool] = True

    def conflicts(self) -> list[str]:
        """Refuse a variance over both sides in a mode that has only one."""
        if self.mode == "online" or not self.variance.startswith("pooled"):
            return []
        problem = f"variance={self.variance} needs models that saw the example; mode=offline has none"
        return [f"{problem} (try variance=per_example)"]

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the log-likelihood ratios and their standard errors; see `Attack.score`.

        Raises:
            ValueError: without shadow models.
        """
        if shadows is None:
            raise UserError("lira needs shadow models")
        margins = np.stack([query_margins(logits, target.labels) for logits in shadows.logits])
        arguments = (query_margins(target.logits, target.labels), margins, shadows.membership)
        options: dict[str, Any] = {
            "center": self.center,
            "variance": self.variance,
            "side": "both" if self.mode == "online" else "out",
        }
        return {"": log_likelihood_ratio(*arguments, **options), STDERR: ratio_error(*arguments, **options)}
