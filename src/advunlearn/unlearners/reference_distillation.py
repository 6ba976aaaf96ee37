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
        """Compute the mean predictions of the reference models; see `Descent.prepare`.

        Raises:
            UserError: without a training setup.
        """
        if self.task.references is None:
            raise UserError(
                "unlearner reference_distillation needs a training setup: use advunlearn.run, or give train="
            )
        self.targets = out_predictions(self.task.references[0]).to(self.examples.labels.device)

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the mean loss over retain and forget examples; see `Descent.batch_loss`."""
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

    with q the mean of the softmax over those reference models that are OUT for the example, without augmentation. It
    has the goal of the game with auditor `likelihood_ratio`, which compares the unlearned model with the same reference
    models; here their predictions are the targets.

    It fails if the reference models are weaker than the original: each is trained on half of the training and audit
    examples, so with few examples its predictions are less confident than those of a retrained model. All reference
    models are trained before the first request to forget; later requests use them again.

    Attributes:
        references: number of reference models, even and at least 2, trained on random halves of the training and audit
            examples; the same models as those of auditor `likelihood_ratio`.
        forget_weight: weight of a forget example relative to a retain example.

    References:
        [hinton2015] G. Hinton, O. Vinyals and J. Dean, "Distilling the Knowledge in a Neural Network", 2015.
            https://arxiv.org/abs/1503.02531 (distillation from an ensemble; its use for unlearning is this project's)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget", "audit")

    epochs: int = option(5, at_least=1)
    references: int = option(16, at_least=2, even=True)
    forget_weight: float = option(1.0, at_least=0, search=(0.1, 10.0))

    descent: ClassVar[type[Descent]] = ReferenceDescent

    def reference_models(self) -> int:
        """Return the number of reference models; see `Unlearner.reference_models`."""
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
