"""How far a score would move with other shadow models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.arrays import Floats


def jackknife_error(without: Floats, membership: NDArray[np.bool_]) -> Floats:
    """Return the jackknife standard error (n,) of each example's score over shadow models.

    For two samples (Arvesen 1969): the root of the sum over IN and OUT of (m - 1)/m sum_j (s_j - mean s)^2, for the m
    models of that side.

    Args:
        without: (k, n), each example's score s_j if shadow model j were left out; where it is NaN, so is the answer.
        membership: (k, n), True where the example is in the shadow model's training set.
    """
    variance = np.zeros(without.shape[1])
    for side in (membership, ~membership):
        count = np.maximum(side.sum(0), 1)  # an empty side, which a score of one side may have, adds nothing
        mean = np.where(side, without, 0.0).sum(0) / count
        variance += (count - 1) / count * (np.where(side, without - mean, 0.0) ** 2).sum(0)
    return np.asarray(np.sqrt(variance))
