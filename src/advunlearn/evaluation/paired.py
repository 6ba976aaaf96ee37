"""Differences between the AUC of two models on the same examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from advunlearn.evaluation.metrics import CONFIDENCE, auc_interval
from advunlearn.runtime.arrays import Floats, Mask


def auc_difference(
    scores: ArrayLike,
    others: ArrayLike,
    members: ArrayLike,
    *,
    cross_fitted: bool = False,
    confidence: float = CONFIDENCE,
) -> tuple[float, float, float]:
    """Return the AUC of `scores` less the mean AUC of `others`, with the ends of its interval.

    DeLong's variance of correlated curves: what makes an example easy for all models cancels, so that the interval is
    narrower than the two AUC's own would make it. It is over examples, for these models as they are, and lies within
    [-1, 1]. If two models that differ are both without error, or give all examples one score, that variance is zero
    and has no meaning; the interval is then that of two independent AUC.

    Args:
        scores: (n,), member scores under one model.
        others: (n,) under another, or (r, n) under several.
        members: (n,) of bool. An example with a NaN score under any of the models is left out.
        cross_fitted: whether the variance is doubled; see `metrics.auc_interval`.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: for shapes that do not fit, or where no member or no non-member has all scores.

    References:
        [delong1988] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the Areas under Two or More
            Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach", Biometrics 1988.
            https://doi.org/10.2307/2531595
    """
    one, several, inside = np.asarray(scores, float), np.atleast_2d(np.asarray(others, float)), np.asarray(members)
    if one.shape != inside.shape or several.shape[1:] != inside.shape or inside.dtype != bool:
        raise ValueError(f"scores must be of one shape, and members bool: {one.shape}, {several.shape}, {inside.shape}")
    known = ~np.isnan(np.vstack([one, several])).any(0)
    one, several, inside = one[known], several[:, known], inside[known]
    if not inside.any() or inside.all():
        raise ValueError("scores of at least one member and one non-member are needed")
    ours, theirs = _shares(one, inside), [_shares(each, inside) for each in several]
    parts = [ours[side] - np.mean([each[side] for each in theirs], axis=0) for side in (0, 1)]
    difference = float(parts[0].mean())
    variance = sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else 0.25 for part in parts)
    if variance == 0 and not (one == several).all():
        return difference, *_apart(one, several, inside, difference)
    half = norm.ppf((1 + confidence) / 2) * np.sqrt(variance * (2 if cross_fitted else 1))
    return difference, max(difference - float(half), -1.0), min(difference + float(half), 1.0)


def _shares(scores: Floats, inside: Mask) -> tuple[Floats, Floats]:
    """Return each member's share of non-members that score below it, and each non-member's of members above it."""
    positive, negative = scores[inside], scores[~inside]
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    return (ranks[:n] - rankdata(positive)) / m, 1 - (ranks[n:] - rankdata(negative)) / n


def _apart(one: Floats, several: Sequence[Floats] | Floats, inside: Mask, difference: float) -> tuple[float, float]:
    """Return the ends of the interval as of two independent AUC; of several others, by the first."""
    ours, theirs = (auc_interval(each[inside], each[~inside]) for each in (one, several[0]))
    low = difference - np.hypot(ours[0] - ours[1], theirs[2] - theirs[0])
    high = difference + np.hypot(ours[2] - ours[0], theirs[0] - theirs[1])
    return max(float(low), -1.0), min(float(high), 1.0)
