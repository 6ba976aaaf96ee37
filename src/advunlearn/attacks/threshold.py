"""Threshold attacks: one number of the model's output, compared with a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.statistics import confidence, cross_entropy, entropy, modified_entropy
from advunlearn.training.shadows import Shadows


@dataclass
class Threshold(Attack):
    """Call an example a member where its loss is low (Yeom et al. 2018), the primary score; beside it its confidence is
    high, its entropy low (Shokri et al. 2017) or its modified entropy low (Song and Mittal 2021, equation 8).

    For one query loss, confidence and logit margin rank the examples alike.
    """

    def score(
        self, target: Observations, shadows: Shadows | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the four scores, each the mean over queries; see `Attack.score`."""
        labels = np.repeat(target.labels[:, None], target.logits.shape[1], axis=1)
        scores = {
            "": -cross_entropy(target.logits, labels),
            "confidence": confidence(target.logits, labels),
            "entropy": -entropy(target.logits),
            "modified_entropy": -modified_entropy(target.logits, labels),
        }
        return {name: score.mean(axis=1) for name, score in scores.items()}
