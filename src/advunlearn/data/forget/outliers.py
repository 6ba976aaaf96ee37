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

    The distance is Euclidean, over the pixels of an image; other features are standardised over the training set first,
    and a missing one counts as its mean. No model is trained. [sorscher2022] measures the difficulty of an example by
    its distance to the nearest of several prototypes in the features of a self-supervised network; here the prototype
    is the mean of the example's class, and the features are the inputs themselves.

    Attributes:
        fraction: of the training examples.

    References:
        [sorscher2022] B. Sorscher, R. Geirhos, S. Shekhar, S. Ganguli and A. S. Morcos, "Beyond Neural Scaling Laws:
            Beating Power Law Scaling via Data Pruning", NeurIPS 2022. https://arxiv.org/abs/2206.14486
    """

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse inputs that have no meaningful distance; see `Forget.problems`."""
        if isinstance(info.shape, dict) or info.whole_numbers:
            why = "which has no meaning for this dataset's inputs, such as tokens (try forget=random)"
            return [f"fraction is chosen by the distance of inputs, {why}"]
        return super().problems(info, train_size)

    def scores(self, rows: Rows, pool: Pool, difficulty: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the distance of each row to the mean of its class, (n,); see `Ranked.scores`."""
        assert not isinstance(pool.inputs, dict)
        inputs: NDArray[Any] | None = None if pool.images else standardised(pool.inputs[rows])
        found = np.empty(len(rows))
        for own in positions_by_class(pool.labels[rows]).values():  # of images, which may be on disk, one class at once
            found[own] = distances(pool.inputs[rows[own]] if inputs is None else inputs[own])
        return found


def distances(inputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return the Euclidean distance (n,) of each of the inputs (n, ...) to their mean."""
    mean = inputs.mean(axis=0, dtype=np.float64)
    return np.array([np.sqrt(((each - mean) ** 2).sum()) for each in inputs])


def standardised(features: NDArray[Any]) -> NDArray[np.float64]:
    """Return features (n, ...) with mean 0 and standard deviation 1, or 0 for a constant one; NaN becomes 0."""
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, features - np.where(known, features, 0).sum(axis=0, dtype=np.float64) / count, 0.0)
    scale = np.sqrt((centred**2).sum(axis=0) / count)
    return np.asarray(centred / np.where(scale > 0, scale, 1.0))
