"""MUNBa: steps along the bisector of the gradients of retaining and of forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import option
from advunlearn.unlearners.descent import Descent, paired_sizes
from advunlearn.unlearners.gradients import bisector
from advunlearn.unlearners.random_label import RandomLabel
from advunlearn.unlearners.unlearner import Task


class Bargaining(Descent):
    """In each step, a batch of the retain set with a batch of the forget set, and the bisector of their gradients."""

    method: MUNBa

    def draw(self) -> list[Tensor]:
        """Return retain batches, each with a forget batch; see `Descent.draw`."""
        return self.paired(self.retained(), self.forgotten())

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the mean losses of retain and of forget examples, (2,); see `Descent.loss`."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        count = forgotten.sum()
        return torch.stack(
            [losses.where(~forgotten, 0.0).sum() / (len(losses) - count), losses.where(forgotten, 0.0).sum() / count]
        )

    def differentiate(self, loss: Tensor) -> Tensor:
        """Compute the bisector of both gradients into the parameters' `grad`; see `Descent.differentiate`."""
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        both = []
        for kind in torch.eye(2, device=loss.device):
            found = torch.autograd.grad(loss, weights, kind, retain_graph=True, allow_unused=True)
            both.append([torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)])
        for weight, direction in zip(weights, bisector(*both), strict=True):
            weight.grad = direction
        return loss.detach().sum()


@dataclass
class MUNBa(RandomLabel):
    """Step along the bargaining solution between retaining and forgetting (Wu and Harandi, ICCV 2025).

    The direction maximises log <g_r, d> + log <g_f, d> over a ball, with g_r the gradient of CE on a batch of D_r, and
    g_f that of CE under wrong labels, drawn once, on a batch of D_f. Its closed form, d = a_r g_r + a_f g_f with a_i =
    sqrt((1 - cos) / sin^2) / |g_i|, is the bisector of the unit gradients at norm sqrt(2): d = (g_r / |g_r| + g_f /
    |g_f|) / sqrt(1 + cos). Both batches pass through the network as one, also for BatchNorm. The norm of d does not
    fall near a solution, so only the learning rate limits the steps, and too large a rate ruins the model; hence the
    cosine schedule, and no momentum. For opposite gradients d is 0.

    Attributes:
        lr: multiplies a direction of norm sqrt(2); others than the authors report 0.03 with 10 epochs for CIFAR-10.

    References:
        [wu2025] J. Wu and M. Harandi, "MUNBa: Machine Unlearning via Nash Bargaining", ICCV 2025.
            https://arxiv.org/abs/2411.15537 (code: github.com/JingWu321/MUNBa)
    """

    descent: ClassVar[type[Descent]] = Bargaining

    lr: float = option(0.03, above=0)
    epochs: int = option(10, at_least=1)
    momentum: float = option(0.0, at_least=0, below=1)
    schedule: str = option("cosine", choices=("cosine", "steps", "constant"))

    def epoch_sizes(self, task: Task, epoch: int) -> list[int]:
        """Return the sizes of the pairs of batches; see `GradientUnlearner.epoch_sizes`."""
        return paired_sizes(len(task.retain), len(task.forget), self.batch_size)
