"""Forget the training examples that models do not memorize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Pool
from advunlearn.data.forget.memorized import Memorized
from advunlearn.runtime.arrays import Rows


@dataclass
class Unmemorized(Memorized):
    """Forget the training examples of lowest memorization: the negative control.

    The retrained model is nearly the original, so there is little to unlearn and little to detect [zhao2024]. How
    memorization is estimated, and the options, are those of `memorized`.

    References:
        [feldman2020] V. Feldman and C. Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail via
            Influence Estimation", NeurIPS 2020. https://arxiv.org/abs/2008.03703
        [zhao2024] K. Zhao, M. Kurmanji, G.-O. Barbulescu, E. Triantafillou and P. Triantafillou, "What Makes Unlearning
            Hard and What to Do About It", NeurIPS 2024. https://arxiv.org/abs/2406.01257
    """

    def scores(self, rows: Rows, pool: Pool, difficulty: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Return the memorization with the opposite sign; see `Ranked.scores`."""
        return None if difficulty is None else -difficulty[rows]
