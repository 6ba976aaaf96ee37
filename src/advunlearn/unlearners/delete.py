"""DELETE: distillation of forget examples towards the original's prediction without their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.data.inputs import Batch
from advunlearn.options import option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.layers import frozen_copy


class DeleteDescent(Descent):
    """The steps of `Delete`."""

    def prepare(self) -> None:
        """Copy the original; see `Descent.prepare`."""
        self.original = frozen_copy(self.network)

    def loss(self, inputs: Batch, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the divergence from the original's prediction without the label; see `Descent.loss`."""
        with torch.no_grad(), self.task.settings.autocast():
            targets = without_label(self.original(inputs).float(), labels)
        return F.kl_div(F.log_softmax(logits, 1), targets, reduction="batchmean")


@dataclass
class Delete(GradientUnlearner):
    """Distil forget examples towards the original's prediction without their class (DELETE, CVPR 2025).

    L = mean over D_f of KL(q || p),   q = softmax of the original's logits with the label's set to minus infinity

    on the same augmented inputs, the original in evaluation mode. No retain example is used.

    It was designed for forgetting whole classes. It fails on a random forget set: a model that was trained without an
    example, but on its class, gives that class most of the probability, and this target gives it none.

    Attributes:
        lr, epochs, batch_size, momentum: the authors use 1e-4, 20, 128 and 0.9.

    References:
        [zhou2025] Y. Zhou, D. Zheng, Q. Mo, R. Lu, K. Lin and W. Zheng, "Decoupled Distillation to Erase: A General
            Unlearning Method for Any Class-centric Tasks", CVPR 2025. https://arxiv.org/abs/2503.23751 (code:
            github.com/shaaaaron/DELETE)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)

    lr: float = option(1e-4, above=0)
    epochs: int = option(20, at_least=1)
    batch_size: int = option(128, at_least=1)

    descent: ClassVar[type[Descent]] = DeleteDescent


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probabilities (n, classes) of all classes but the label, which gets 0, from logits (n, classes)."""
    return logits.scatter(1, labels[:, None], -torch.inf).softmax(1)
