"""Distillation of forget examples towards what models that never saw them predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import UserError, option
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner


class ReferenceDescent(Descent):
    """The steps of `ReferenceDistillation`."""

    method: ReferenceDistillation

    def prepare(self) -> None:
        """Compute what the references predict.

        Raises:
            UserError: without a training setup.
        """
        if self.task.references is None:
            raise UserError("unlearner reference_distillation needs a training setup: use advunlearn.run")
        self.targets = out_predictions(self.task.references[0]).to(self.examples.labels.device)

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the mean of both losses; see `Descent.batch_loss`."""
        inputs, labels = self.examples.training_batch(draws)
        logs = F.log_softmax(self.logits(inputs), 1)
        targets = self.targets[(draws[0] - self.kept).clamp(min=0)]
        distances = F.kl_div(logs, targets, reduction="none").sum(1)
        losses = F.nll_loss(logs, labels, reduction="none")
        return torch.where(draws[0] >= self.kept, self.method.forget_weight * distances, losses).mean()


@dataclass
class ReferenceDistillation(GradientUnlearner):
    """Distil forget examples towards the mean prediction of reference models that were not trained on them.

    L = mean over D_r u D_f of CE for retain examples and of forget_weight KL(q || p) for forget examples

    with q the mean of the softmax over those reference models that are OUT for the example, of its image without
    augmentation. It is the game's goal without a game: the game with auditor `likelihood_ratio` asks the same reference
    models how far the unlearned model still is from those that never saw an example; here it is told where to go.

    It fails where the references are weaker than the model: each is trained on half of the training and audit examples,
    so its predictions are less certain than those of a retrained model if there are few examples. The preparation
    trains all reference models, once for every request.

    Attributes:
        references: models, a multiple of 2 and at least 2, trained on random halves of the training and audit examples;
            the same as those of auditor `likelihood_ratio`.
        forget_weight: of a forget example against a retain example.

    References:
        [hinton2015] G. Hinton, O. Vinyals and J. Dean, "Distilling the Knowledge in a Neural Network", 2015.
            https://arxiv.org/abs/1503.02531 (distillation from an ensemble; its use for unlearning is this project's)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget", "audit")

    epochs: int = option(5, at_least=1)
    references: int = option(16, at_least=2)
    forget_weight: float = option(1.0, at_least=0)

    descent: ClassVar[type[Descent]] = ReferenceDescent

    def conflicts(self) -> list[str]:
        """Return a line for an odd number of reference models."""
        odd = self.references % 2
        return [f"references must be an even whole number, got {self.references} (try references=16)"] if odd else []

    def reference_models(self) -> int:
        """Return their number; see `Unlearner.reference_models`."""
        return self.references


def out_predictions(outputs: ShadowOutputs) -> Tensor:
    """Return the mean probabilities (n, classes), float32, of the models that were not trained on each example.

    Raises:
        UserError: if an example was a training example of all models.
    """
    outside = torch.from_numpy(~outputs.membership)
    if not bool(outside.any(0).all()):
        raise UserError("every reference model was trained on some example; use more of them (unlearner.references)")
    predictions = torch.from_numpy(outputs.logits[:, :, 0]).double().softmax(-1)
    weights = outside.double() / outside.sum(0)
    return (weights[:, :, None] * predictions).sum(0).float()
