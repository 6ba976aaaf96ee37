"""Forget the training examples that are far from the others of their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.by_class import positions_by_class
from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.forget.ranked import Ranked
from advunlearn.runtime.arrays import Rows


@dataclass
class Outliers(Ranked):
    """Forget the training examples whose inputs are farthest from the mean input of their class.

    The distance is Euclidean, over the pixels of an image; other features are first divided by their standard deviation
    over the training set, and missing ones are left out. No model is trained. Distance to a class prototype
    is a measure of difficulty of [sorscher2022], there in the features of a self-supervised network; here it is that of
    the inputs themselves.

    Attributes:
        fraction: of the training examples.

    References:
        [sorscher2022] B. Sorscher, R. Geirhos, S. Shekhar, S. Ganguli and A. S. Morcos, "Beyond Neural Scaling Laws:
            Beating Power Law Scaling via Data Pruning", NeurIPS 2022. https://arxiv.org/abs/2206.14486
    """

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse inputs that have no meaningful distance; see `Forget.problems`."""
        if isinstance(info.shape, dict) or info.whole_numbers:
            return [
                "fraction: the distances of this dataset's inputs, such as tokens, have no meaning (try forget=random)"
            ]
        return super().problems(info, train_size)

    def scores(self, rows: Rows, pool: Pool, difficulty: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the distance of each row to the mean of its class, (n,); see `Ranked.scores`."""
        assert not isinstance(pool.inputs, dict)
        scale = 1.0 if pool.images else _deviations(pool.inputs[rows])
        found = np.empty(len(rows))
        for own in positions_by_class(pool.labels[rows]).values():
            found[own] = distances(pool.inputs[rows[own]], scale)
        return found


def distances(inputs: NDArray[Any], scale: NDArray[np.float64] | float = 1.0) -> NDArray[np.float64]:
    """Return the Euclidean distance (n,) of each of the inputs (n, ...) to their mean, each feature over its scale."""
    mean = np.nanmean(inputs, axis=0, dtype=np.float64)
    return np.array([np.sqrt(np.nansum(((each - mean) / scale) ** 2)) for each in inputs])


def _deviations(inputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviation of each feature, 1 for a constant one."""
    found = np.nanstd(inputs, axis=0, dtype=np.float64)
    return np.where(found > 0, found, 1.0)
