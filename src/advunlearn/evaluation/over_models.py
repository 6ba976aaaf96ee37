"""True-positive rates over the scores of many models, with intervals over the models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from advunlearn.evaluation.metrics import CONFIDENCE, clopper_pearson, widened
from advunlearn.runtime.arrays import Floats, Mask

CHUNK = 100  # resamples at once: 32,000 scores then need 50 MB


def tpr_over_models(
    scores: ArrayLike,
    members: ArrayLike,
    groups: ArrayLike,
    fprs: Sequence[float],
    *,
    seed: int,
    resamples: int = 1000,
    cross_fitted: bool = False,
) -> list[tuple[float, float, float]]:
    """Return the true-positive rate at a false-positive rate of at most each of `fprs`, and its 95 % interval.

    The rate is that of `metrics.tpr_at_fpr`. The interval is that of `metrics.auc_over_models`: whole groups are drawn
    with replacement, each draw with a threshold of its own, and the ends are moved out; see `metrics.widened`. It is
    never narrower than Clopper and Pearson's for independent scores: a bootstrap of a rate of 0 has no width.

    Args:
        scores, members, groups: (n,), see `metrics.auc_over_models`; no score is NaN.
        fprs: each in (0, 1).
        seed, resamples, cross_fitted: as there.
    """
    kept, inside = np.asarray(scores, dtype=np.float64), np.asarray(members)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    count, positives, rates = len(names), int(inside.sum()), _Rates(kept, inside, group)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    chunks = [rates.at(drawn[start : start + CHUNK], fprs) for start in range(0, resamples, CHUNK)]
    ends = np.nanquantile(np.concatenate(chunks), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    found = []
    for tpr, (low, high) in zip(
        rates.at(np.ones((1, count), np.int64), fprs)[0].tolist(), ends.T.tolist(), strict=True
    ):
        low, high = widened(tpr, (low, high), count, cross_fitted=cross_fitted)
        least, most = clopper_pearson(round(tpr * positives), positives)
        found.append((tpr, min(low, least), max(high, most)))
    return found


class _Rates:
    """The scores of both sides, from the largest to the smallest, with their groups."""

    def __init__(self, scores: Floats, members: Mask, group: NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered, inside, group = scores[order], members[order], group[order]
        self.positive, self.negative = group[inside], group[~inside]
        # How many members score above each non-member; above the threshold that no score reaches from below, all do.
        above = np.searchsorted(-ordered[inside], -ordered[~inside], "left")
        self.above = np.append(above, inside.sum())

    def at(self, weights: NDArray[np.int64], fprs: Sequence[float]) -> Floats:
        """Return the true-positive rates (b, fprs) where group g counts `weights[:, g]` times, weights (b, groups).

        NaN without a member or a non-member. The threshold lies above the first non-member that is one too many.
        """
        false, true = (weights[:, side].cumsum(1) for side in (self.negative, self.positive))
        total = false[:, -1:]
        first = np.stack([(false <= fpr * (1 + 1e-12) * total).sum(1) for fpr in fprs], axis=1)
        found = np.concatenate([np.zeros((len(weights), 1), np.int64), true], axis=1)
        with np.errstate(invalid="ignore"):
            rate = np.take_along_axis(found, self.above[first], axis=1) / true[:, -1:]
        return np.where(total > 0, rate, np.nan)
