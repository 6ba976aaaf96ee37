"""The game's auditor as a logistic regression: fitted exactly, in batches, and differentiable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.solvers.linear import decide, fit_linear
from advunlearn.options import option


@dataclass
class Logistic(CrossValidated):
    """L2-regularised logistic regression.

    The utility is minus the mean log loss log(1 + exp(-margin)), in nats, over held-out examples.

    Attributes:
        regularization: see `fit_linear`.

    References:
        No publication.
        The game that it plays is [di2025], https://arxiv.org/abs/2406.07687.
    """

    regularization: float = option(0.01, above=0)

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decision values (b, n); see `CrossValidated.fit`."""
        return decide(
            features, *fit_linear(features, sides, train, regularization=self.regularization, loss="logistic")
        )
