"""Forget training examples whose labels are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from advunlearn.data.forget.random import Random
from advunlearn.runtime.arrays import Rows


@dataclass
class Mislabelled(Random):
    """Give a fraction of the training examples, the same of every class, a wrong label, and forget these.

    The original is trained with the wrong labels. Each is drawn from the other classes of the training set with equal
    probability. Held-out examples keep their labels. A run then reports, for each model, the share of the forget set
    that it classifies as the wrong label, which the original has memorized, and as the true one.

    An attack uses the wrong labels, as the original did. On the retrained model its AUC is therefore far below 0.5: for
    this forget set only the distance to the retrained model is meaningful.

    Attributes:
        fraction: of the training examples.

    References:
        [goel2022] S. Goel, A. Prabhu, A. Sanyal, S.-N. Lim, P. Torr and P. Kumaraguru, "Towards Adversarial Evaluations
            for Inexact Machine Unlearning", 2022. https://arxiv.org/abs/2201.06640
            (where two classes are confused with each other)
    """

    relabels: ClassVar[bool] = True

    def relabelled(self, labels: Rows, classes: Rows, rng: np.random.Generator) -> Rows:
        """Return another class for each label (n,); see `Forget.relabelled`."""
        if len(classes) < 2:  # a run refuses such a training set
            return labels
        step = rng.integers(1, len(classes), size=len(labels))
        return np.asarray(classes[(np.searchsorted(classes, labels) + step) % len(classes)])
