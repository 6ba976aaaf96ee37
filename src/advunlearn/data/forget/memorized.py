"""Forget the training examples that models memorize."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Pool
from advunlearn.data.forget.ranked import Ranked
from advunlearn.options import option
from advunlearn.runtime.arrays import Rows


@dataclass
class Memorized(Ranked):
    """Forget the training examples of highest memorization: the hardest requests [zhao2024].

    The memorization of an example is P[correct | IN] - P[correct | OUT]: how much more often a model that was trained
    on it classifies it correctly than one that was not [feldman2020]. It is estimated from `models` models of this
    run's recipe, each trained on a random half of the training set: half of them were trained on a given example. Equal
    examples are ordered by the same difference in the probability of their label.

    These models are trained on no held-out example and have random streams of their own, so no attack shares a model
    with them. They choose the largest of many noisy estimates and therefore overestimate the forget set's memorization.
    A run reports the estimate of the attacks' shadow models instead, if it has them.

    With `models=0` the order is that of a proxy, the lowest probability of the label first, after one training on all
    training examples for a tenth of the epochs. In [zhao2024scalability], the confidence over a training has a rank
    correlation of -0.80 to -0.91 with memorization, and a retraining with held-out examples one of 0.62 to 0.67. On
    digits, that of this proxy with the order of 64 models is 0.71 for 250 examples and 0.87 for 1,000. The memorization
    itself is not known from a proxy.

    The forget set is not a random sample: an attack separates it from test examples on the retrained model as well, so
    only the distance to the retrained model is meaningful.

    Attributes:
        fraction: of the training examples.
        models: an even number of them, from which memorization is estimated; 0 uses the proxy.

    References:
        [feldman2020] V. Feldman and C. Zhang, "What Neural Networks Memorize and Why: Discovering the Long Tail via
            Influence Estimation", NeurIPS 2020. https://arxiv.org/abs/2008.03703
        [zhao2024] K. Zhao, M. Kurmanji, G.-O. Barbulescu, E. Triantafillou and P. Triantafillou, "What Makes Unlearning
            Hard and What to Do About It", NeurIPS 2024. https://arxiv.org/abs/2406.01257
        [zhao2024scalability] K. Zhao and P. Triantafillou, "Scalability of Memorization-Based Machine Unlearning",
            2024. https://arxiv.org/abs/2410.16516
    """

    models: int = option(16, at_least=0, even=True)

    def memorization_models(self) -> int:
        """Return the number of models; see `Forget.memorization_models`."""
        return self.models

    def scores(self, rows: Rows, pool: Pool, difficulty: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Return the memorization, or what stands for it; see `Ranked.scores`."""
        return None if difficulty is None else difficulty[rows]
