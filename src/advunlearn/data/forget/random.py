"""Forget a random part of the training examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from advunlearn.data.by_class import positions_by_class, shares
from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.scenario import Forget
from advunlearn.options import option
from advunlearn.runtime.arrays import Rows


@dataclass
class Random(Forget):
    """Forget a fraction of the training examples, the same of every class: classes alone tell an attack nothing.

    References:
        No publication.
    """

    sampled: ClassVar[bool] = True

    fraction: float = option(0.2, above=0, below=1)

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse a fraction of which nothing is left; see `Forget.problems`."""
        count = round(self.fraction * train_size)
        if 0 < count < train_size:
            return []
        return [
            f"fraction={self.fraction:g} of {train_size} training examples is {count}: "
            "something to forget and to retain is needed"
        ]

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return round(fraction n) rows, of each class its share; what is left over goes to the largest remainders."""
        counts = shares(labels, round(self.fraction * len(rows)))
        drawn = [rng.permutation(rows[own])[: counts[each]] for each, own in positions_by_class(labels).items()]
        return np.sort(np.concatenate(drawn))
