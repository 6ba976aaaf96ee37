"""The likelihood-ratio attack (Carlini et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.statistics import logit_margin
from advunlearn.options import option
from advunlearn.training.shadows import Shadows

Array = NDArray[np.float64]

CENTERS = ("median", "mean")
VARIANCES = ("per_example", "fixed", "pooled")
SIDES = ("both", "out")
FLOOR = 1e-30  # added to every sigma, as the peers do: constant scores give the same density on both sides, and so 0


def log_likelihood_ratio(
    target: Array,
    shadows: Array,
    membership: NDArray[np.bool_],
    *,
    center: str = "median",
    variance: str = "pooled",
    side: str = "both",
) -> Array:
    """Return each example's log-likelihood ratio (n,), LARGE for members, the mean over its queries.

    An example that has no shadow model on a side that is needed gets NaN.

    Args:
        target: (n, q) logit margins of the attacked model on n examples, q queries each.
        shadows: (k, n, q), the same of k shadow models.
        membership: (k, n), True where the example is in the shadow model's training set.
        center: of each example's margins: `median` or `mean`.
        variance: `per_example` is each example's own on each side, where a side has fewer than two models the fixed
            one; `fixed` is that of all examples' residuals about their centres, IN and OUT apart; `pooled` is one an
            example over both sides.
        side: `both` is the log-ratio of the two normal densities (algorithm 1); `out` is the one-sided log-probability
            of a smaller margin under OUT (equation 4), for shadow models that never saw the example.

    Raises:
        ValueError: for shapes that do not fit, NaN or infinite margins, and unknown options.
    """
    _check(
        target,
        shadows,
        membership,
        {"center": (center, CENTERS), "variance": (variance, VARIANCES), "side": (side, SIDES)},
    )
    inside = np.where(membership[..., None], shadows, np.nan)
    outside = np.where(membership[..., None], np.nan, shadows)
    counts = membership.sum(0), (~membership).sum(0)
    # Where a side is empty every number of it is NaN, by design.
    with np.errstate(invalid="ignore", divide="ignore"):
        centers = [_center(margins, count, center) for margins, count in zip((inside, outside), counts, strict=True)]
        residuals = [margins - middle for margins, middle in zip((inside, outside), centers, strict=True)]
        sigmas = _sigmas(residuals, counts, variance)
        if side == "out":
            return np.asarray(norm.logcdf(target, centers[1], sigmas[1] + FLOOR).mean(1))
        densities = [norm.logpdf(target, mu, sigma + FLOOR) for mu, sigma in zip(centers, sigmas, strict=True)]
        return np.asarray((densities[0] - densities[1]).mean(1))


def _center(margins: Array, counts: NDArray[np.int64], center: str) -> Array:
    """Return the centre (n, q) over the models that are not NaN."""
    if center == "mean":
        return np.asarray(np.nansum(margins, 0) / counts[:, None])
    in_order = np.sort(margins, 0)  # NaN last
    models = len(margins)
    lower, upper = ((counts - 1) // 2).clip(0, models - 1), (counts // 2).clip(0, models - 1)
    each = np.arange(margins.shape[1])
    middle = (in_order[lower, each] + in_order[upper, each]) / 2
    return np.asarray(np.where(counts[:, None] > 0, middle, np.nan))


def _sigmas(residuals: list[Array], counts: tuple[NDArray[np.int64], NDArray[np.int64]], variance: str) -> list[Array]:
    """Return sigma of each side, (n, q): the deviation (ddof 0) of residuals about their examples' centres."""
    fixed = [np.full(side.shape[1:], _deviation(side, None)) for side in residuals]
    if variance == "fixed":
        return fixed
    if variance == "pooled":
        both = _deviation(np.concatenate(residuals), 0)
        enough = (counts[0] + counts[1] > 2)[:, None]  # with one model a side every residual is zero
        return [np.where(enough, both, sigma) for sigma in fixed]
    return [
        np.where((count > 1)[:, None], _deviation(side, 0), sigma)
        for side, count, sigma in zip(residuals, counts, fixed, strict=True)
    ]


def _deviation(residuals: Array, axis: int | None) -> Array:
    """Return the standard deviation of those that are not NaN; NaN where none is."""
    count = (~np.isnan(residuals)).sum(axis)
    mean = np.nansum(residuals, axis) / count
    return np.asarray(np.sqrt(np.nansum((residuals - mean) ** 2, axis) / count))


def _check(
    target: Array, shadows: Array, membership: NDArray[np.bool_], options: dict[str, tuple[str, tuple[str, ...]]]
) -> None:
    for name, (value, choices) in options.items():
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value}")
    if (
        target.ndim != 2
        or shadows.ndim != 3
        or shadows.shape[1:] != target.shape
        or membership.shape != shadows.shape[:2]
    ):
        raise ValueError(
            "target (n, q), shadows (k, n, q) and membership (k, n) must fit together, got "
            f"{target.shape}, {shadows.shape} and {membership.shape}"
        )
    if len(shadows) == 0:
        raise ValueError("at least one shadow model is needed, got none")
    if not (np.isfinite(target).all() and np.isfinite(shadows).all()):
        raise ValueError("margins must be finite")


def default_variance(shadows: int, *, both: bool) -> str:
    """Return the variance that ranks best for this many shadow models, half of them on each side; are `both` used?"""
    if shadows <= 4:
        return "fixed"
    return "pooled" if both and shadows < 128 else "per_example"


@dataclass
class LiRA(Attack):
    """Likelihood-ratio attack: is this margin more like those of shadow models that were trained on the example, or
    not?

    Attributes:
        mode: `online` compares the shadow models that saw the example with those that did not; `offline` uses only
            those that did not, one-sidedly.
        center: of each example's shadow margins.
        variance: see `log_likelihood_ratio`; `auto` chooses by the number of shadow models.
    """

    mode: str = option("online", choices=("online", "offline"))
    center: str = option("median", choices=CENTERS)
    variance: str = option("auto", choices=("auto", *VARIANCES))

    needs_shadows: ClassVar[bool] = True

    def conflicts(self) -> list[str]:
        """Refuse a variance over both sides in a mode that has only one."""
        if self.mode == "online" or self.variance != "pooled":
            return []
        return ["variance=pooled needs models that saw the example; mode=offline has none (try variance=per_example)"]

    def score(
        self, target: Observations, shadows: Shadows | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the log-likelihood ratios; see `Attack.score`.

        Raises:
            ValueError: without shadow models.
        """
        if shadows is None:
            raise ValueError("lira needs shadow models")
        labels = np.repeat(target.labels[:, None], target.logits.shape[1], axis=1)
        margins = np.stack([logit_margin(logits, labels) for logits in shadows.logits])
        online = self.mode == "online"
        variance = self.variance if self.variance != "auto" else default_variance(len(margins), both=online)
        score = log_likelihood_ratio(
            logit_margin(target.logits, labels),
            margins,
            shadows.membership,
            center=self.center,
            variance=variance,
            side="both" if online else "out",
        )
        return {"": score}
