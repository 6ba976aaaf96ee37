"""Unlearned and retrained models compared as two distributions: many models of each, example by example.

In all functions, NaN marks an example that does not belong to a model, and the two sets of models need not be of one
size. Margins are logit margins, see `statistics.logit_margin`. With few models both numbers are far from those of a
perfect unlearner, because samples of one distribution differ as well: compare them with the same number of models that
were retrained once more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.arrays import Floats

BINS = 20
CLIP = 100.0  # margins beyond it are counted at it
LEAST_SHARE = 1e-5  # of a bin that no retrained margin is in

DELTA = 1e-5
EPSILON_CAP = 50.0  # of two distributions that a threshold separates
SATURATION = -math.log(1e-45)  # the largest margin of the competition's code
PER_UNIT, BUFFER = 100, 2.0  # thresholds per unit of the margin; how much an interval may differ from the narrower one
LEAST_RATIO = 0.01  # of the ranges: below it, one distribution is a peak
BUCKET = 0.5


def klom(unlearned: Floats, retrained: Floats) -> Floats:
    """Return the KL divergence of margins (n,), in nats: KLoM, from 0, the aim, to 11.5.

    Each example's margins under the unlearned and the retrained models are clipped to [-100, 100] and counted in 20
    bins of equal width over their common range. KLoM is sum p log(p / max(q, 1e-5)), p of the unlearned and q of the
    retrained models. As in the authors' code, the largest margin of each example is in no bin. One difference: if no
    unlearned margin is left then, they are counted in the last bin, where the authors' code returns 0, that is, a
    perfect unlearner. NaN without a model on either side.

    Args:
        unlearned: (k, n) margins of k unlearned models.
        retrained: (m, n) margins of m retrained models.

    Raises:
        ValueError: if the arrays do not fit.

    References:
        [georgiev2024] K. Georgiev, R. Rinberg, S. M. Park, S. Garg, A. Ilyas, A. Madry and S. Neel, "Attribute-to-
            Delete: Machine Unlearning via Datamodel Matching", 2024. https://arxiv.org/abs/2410.23232
        [rinberg2026] R. Rinberg, P. Puigdemont, M. Pawelczyk and V. Cevher, "Easy Data Unlearning Bench", 2026.
            https://arxiv.org/abs/2602.16400 (bins and clipping, by its code: https://github.com/easydub/EasyDUB-code)
    """
    ours, theirs = (np.clip(each, -CLIP, CLIP) for each in _checked(unlearned, retrained))
    low = np.fmin.reduce([*ours, *theirs])
    high = np.fmax.reduce([*ours, *theirs])
    edges = np.linspace(low, np.where(low < high, high, low + 1), BINS + 1)
    counts, others = (_histogram(each, edges) for each in (ours, theirs))
    counts[-1] += np.where(counts.sum(0) == 0, (~np.isnan(ours)).sum(0), 0)
    p, q = (each / np.maximum(each.sum(0), 1) for each in (counts, others))
    ratio = np.maximum(p, LEAST_SHARE) / np.maximum(q, LEAST_SHARE)  # p is 0 or larger than LEAST_SHARE
    return np.where(_known(ours) & _known(theirs), (p * np.log(ratio)).sum(0), np.nan)


def epsilons(unlearned: Floats, retrained: Floats) -> Floats:
    """Return how well a threshold tells unlearned from retrained models, by example (n,): epsilon, 0 to 50.

    Of all decision rules, epsilon is the largest of log((1 - delta - FPR) / FNR) and log((1 - delta - FNR) / FPR), at
    least 0, with delta = 1e-5. The rules are: the margin is at least a threshold (one hundred per unit); and the margin
    is in an interval, as wide as the range of the narrower distribution, within 2. If a rule makes no error, or one
    distribution is a peak, with a range of less than 1 % of that of the other, epsilon is 50. A rule with one rate of 0
    and one above 0 is not counted: the authors take it as a sign of too few models. So it is at most about log(k) for
    distributions that overlap. NaN without a model on either side. Margins beyond 103.6 are counted at it, as in the
    authors' code.

    Differences to it: two constant distributions have an epsilon of 0 if they are equal and of 50 if not, and
    distributions that are closer to each other than thresholds one of 50, where the code divides by zero or stops.

    Args:
        unlearned, retrained: see `klom`.

    Raises:
        ValueError: if the arrays do not fit.

    References:
        See `forgetting_quality`.
    """
    ours, theirs = (np.clip(each, -SATURATION, SATURATION) for each in _checked(unlearned, retrained))
    found = np.full(ours.shape[1], np.nan)
    for example in np.flatnonzero(_known(ours) & _known(theirs)):
        pair = (np.sort(each[~np.isnan(each)]) for each in (ours[:, example], theirs[:, example]))
        found[example] = _epsilon(*pair)
    return found


def forgetting_quality(found: Floats, models: int) -> float:
    """Return the forgetting quality of the first NeurIPS unlearning competition, in [0, 1]; 1 is the aim.

    It is the mean of 2^-floor(epsilon / 0.5) over the examples. An epsilon of ceil(log(models - 1)) or more counts 0:
    so many models cannot resolve it. Examples without an epsilon (NaN) are left out.

    Args:
        found: (n,), see `epsilons`.
        models: how many unlearned models there are, and as many retrained ones.

    Raises:
        ValueError: for less than 3 models, or without an epsilon.

    References:
        [triantafillou2024] E. Triantafillou, P. Kairouz, F. Pedregosa, J. Hayes, M. Kurmanji, K. Zhao, V. Dumoulin,
            J. Jacques Junior, I. Mitliagkas, J. Wan, L. Sun Hosoya, S. Escalera, G. K. Dziugaite, P. Triantafillou and
            I. Guyon, "Are we making progress in unlearning? Findings from the first NeurIPS unlearning competition",
            2024. https://arxiv.org/abs/2406.09073 (thresholds, cap and buckets are those of the competition's code:
            https://github.com/google-deepmind/unlearning_evaluation)
    """
    known = found[~np.isnan(found)]
    if models < 3 or len(known) == 0:
        raise ValueError(f"forgetting quality needs 3 models and an example at least, got {models} and {len(known)}")
    bucket = np.floor(known / BUCKET)
    last = math.ceil(math.log(models - 1)) / BUCKET
    return float(np.where(bucket < last, 0.5**bucket, 0.0).mean())


def _histogram(margins: Floats, edges: Floats) -> Floats:
    """Return how many of the margins (k, n) lie in each bin, (bins, n), without the last edge itself."""
    at_least = np.stack([(margins >= edge).sum(0) for edge in edges])
    return (at_least[:-1] - at_least[1:]).astype(np.float64)


def _epsilon(ours: Floats, theirs: Floats) -> float:
    """Return the epsilon of two sorted samples."""
    narrow, wide = sorted((ours, theirs), key=np.ptp)
    if np.ptp(wide) == 0:
        return 0.0 if ours[0] == theirs[0] else EPSILON_CAP
    if np.ptp(narrow) / np.ptp(wide) < LEAST_RATIO:
        return EPSILON_CAP
    high, low = (theirs, ours) if np.median(theirs) > np.median(ours) else (ours, theirs)
    errors = np.concatenate([_threshold_errors(high, low), _interval_errors(narrow, wide)])
    misses, alarms = errors.T
    if ((misses == 0) & (alarms == 0)).any():
        return EPSILON_CAP
    counted = (misses > 0) & (alarms > 0)
    rates = misses[counted], alarms[counted]
    with np.errstate(invalid="ignore"):  # the logarithm is undefined for a rate of 1
        logarithms = [np.log(1 - DELTA - one) - np.log(other) for one, other in (rates, rates[::-1])]
    # Without a rule that counts, no threshold of the grid lies between two distributions that are apart.
    return float(np.clip(np.nanmax(logarithms), 0, EPSILON_CAP)) if counted.any() else EPSILON_CAP


def _threshold_errors(high: Floats, low: Floats) -> Floats:
    """Return the rates of misses and false alarms (rules, 2) of 'at least a threshold', for sorted samples."""
    first, last = min(high[0], low[0]), max(high[-1], low[-1])
    thresholds = np.linspace(first, last, math.ceil((last - first) * PER_UNIT))
    below = [np.searchsorted(each, thresholds) / len(each) for each in (high, low)]
    return np.stack([below[0], 1 - below[1]], -1)


def _interval_errors(narrow: Floats, wide: Floats) -> Floats:
    """Return the rates of misses and false alarms (rules, 2) of 'in an interval', for sorted samples."""
    width = narrow[-1] - narrow[0]
    first, last = narrow[0] + width - BUFFER, narrow[-1] + BUFFER
    right = np.linspace(first, last, math.ceil((last - first) * PER_UNIT))
    left = np.linspace(right - width - BUFFER, right - width + BUFFER, math.ceil(2 * BUFFER * PER_UNIT))
    inside = [
        np.maximum(np.searchsorted(each, right, side="right") - np.searchsorted(each, left), 0).ravel()
        for each in (narrow, wide)
    ]
    happens = np.zeros((len(narrow) + 1, len(wide) + 1), bool)  # 160,000 rules have few pairs of counts
    happens[inside[0], inside[1]] = True
    counts = np.argwhere(happens) / (len(narrow), len(wide))
    return np.stack([1 - counts[:, 0], counts[:, 1]], -1)


def _checked(unlearned: Floats, retrained: Floats) -> tuple[Floats, Floats]:
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (unlearned, retrained))
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1] or not len(ours) or not len(theirs):
        raise ValueError(f"margins must be (models, examples), got shapes {ours.shape} and {theirs.shape}")
    return ours, theirs


def _known(margins: Floats) -> NDArray[np.bool_]:
    """Return for which examples (n,) there is a model."""
    return np.asarray((~np.isnan(margins)).any(0))
