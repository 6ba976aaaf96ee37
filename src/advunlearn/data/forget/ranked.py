"""Forget the most extreme training examples by some number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.by_class import positions_by_class, shares
from advunlearn.data.dataset import Pool
from advunlearn.data.forget.random import Random
from advunlearn.runtime.arrays import Rows


@dataclass
class Ranked(Random):
    """Base class of scenarios that forget the fraction of the training examples with the largest scores.

    Attributes:
        per_class: forget the same fraction of every class, so that classes alone tell an attack nothing; false takes
            the largest scores of all classes together.
    """

    per_class: bool = True

    def scores(self, rows: Rows, pool: Pool, difficulty: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Return a number for each training row, (n,); None if it is not known yet. See `Forget.choose`."""
        raise NotImplementedError

    def choose(self, rows: Rows, pool: Pool, rng: np.random.Generator, difficulty: NDArray[np.float64] | None) -> Rows:
        """Return the rows of the largest scores, equal ones in random order; see `Forget.choose`."""
        scores = self.scores(rows, pool, difficulty)
        if scores is None:
            return self.select(rows, pool.labels[rows], rng)
        return self.largest(rows, pool.labels[rows], scores, rng)

    def largest(self, rows: Rows, labels: Rows, scores: NDArray[np.float64], rng: np.random.Generator) -> Rows:
        """Return round(fraction n) of the n rows, sorted: those of the largest scores, of each class or of all."""
        groups = labels if self.per_class else np.zeros_like(labels)
        order = np.lexsort((rng.random(len(rows)), -scores))
        counts = shares(groups, round(self.fraction * len(rows)))
        chosen = [order[own][: counts[each]] for each, own in positions_by_class(groups[order]).items()]
        return np.sort(rows[np.concatenate(chosen)])
