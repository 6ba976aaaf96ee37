"""The game's auditor as a support vector machine: fitted exactly, in batches, and differentiable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.solvers.linear import decide, fit_linear
from advunlearn.options import UserError, option

LOSSES = ("squared_hinge", "huber_hinge", "hinge")


def fit_svm(
    features: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    regularization: float,
    loss: str = "squared_hinge",
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Fit b linear support vector machines at once; the result is differentiable (once) in the features.

    Each minimises mean_i loss(y_i (w . x_i + bias)) + regularization / 2 ||w||^2 over w and a free bias, under one of
    the three hinges; see `fit_linear` for everything else.

    Args:
        features: (b, n, d).
        labels: (b, n), -1 or +1.
        mask: (b, n) of bool, False for padding; None keeps all rows.
        regularization: above 0.
        loss: `squared_hinge`, `huber_hinge` or `hinge`.
        start: weights (b, d) and biases (b) to start from; `hinge` does not use them.

    Returns:
        weights (b, d) and biases (b), float64.

    Raises:
        ValueError: as `fit_linear`, and for any other loss.
    """
    if loss not in LOSSES:
        raise UserError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return fit_linear(features, labels, mask, regularization=regularization, loss=loss, start=start)


@dataclass
class SVM(CrossValidated):
    """L2-regularised linear support vector machine, the paper's follower.

    The utility is minus the mean hinge max(0, 1 - margin) over held-out examples, for every training loss.

    Attributes:
        regularization, loss: see `fit_svm`.

    References:
        [di2025] Z. Di, S. Yu, Y. Vorobeychik and Y. Liu, "Adversarial Machine Unlearning", ICLR 2025.
            https://arxiv.org/abs/2406.07687
        [cortes1995] C. Cortes and V. Vapnik, "Support-Vector Networks", Machine Learning 20, 273-297, 1995.
            https://doi.org/10.1007/BF00994018
    """

    regularization: float = option(0.1, above=0)
    loss: str = option("huber_hinge", choices=LOSSES)

    uninformed: ClassVar[float] = -1.0

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decision values (b, n); see `CrossValidated.fit`."""
        return decide(features, *fit_svm(features, sides, train, regularization=self.regularization, loss=self.loss))

    def heldout_loss(self, margins: Tensor) -> Tensor:
        """Return the hinge of margins."""
        return (1.0 - margins).clamp(min=0.0)
