"""SFR-on: ascent steps on the weights that matter more to the forget set, between descent steps on the retain set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.data.examples import batch_sizes
from advunlearn.options import option
from advunlearn.unlearners.descent import Descent, capped, cycled_sizes
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.gradients import Factors, mean_gradients
from advunlearn.unlearners.unlearner import Task

TINY = 1e-15  # the authors' value; with it, the ratio of two importances of 0 is 1


class Alternation(Descent):
    """A pass through the retain set, with an ascent step on forget examples before every `every`-th step."""

    method: SFRon

    def prepare(self) -> None:
        """Choose the weights that ascent steps move; see `Descent.prepare`."""
        parts = self.task.forget, self.task.retain
        forget, retain = (mean_gradients(self.network, part, self.method.batch_size, power=2) for part in parts)
        ratios = [(a + TINY) / (b + TINY) for a, b in zip(forget, retain, strict=True)]
        moved = zip(self.network.parameters(), (ratio >= self.method.threshold for ratio in ratios), strict=True)
        self.factors = Factors({weight: mask.to(weight.dtype) for weight, mask in moved})

    def draw(self) -> list[Tensor]:
        """Return retain batches, with forget batches between them; see `Descent.draw`."""
        descent, every = self.drawn(self.retained()), self.method.every
        ascent = self.cycled(self.forgotten(), math.ceil(len(descent) / every))
        both = [[ascent[n // every], batch] if n % every == 0 else [batch] for n, batch in enumerate(descent)]
        return [batch for pair in both for batch in pair]

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the loss of a batch of either kind; see `Descent.loss`."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        strength = self.method.forget_scale * (1 + math.cos(math.pi * self.progress)) / 2
        ascended = capped(losses, logits.shape[1]) * adaptive_weights(losses.detach(), self.method.exponent)
        return torch.where(forgotten, -strength * ascended, losses).mean()

    def step(self, optimizer: torch.optim.Optimizer, forgotten: Tensor, answer: Callable[[], None]) -> None:
        """Change only the chosen weights if the batch is one of forget examples; see `Descent.step`."""
        if bool(forgotten[0]):
            self.factors.step(optimizer, answer, self.method.most_norm)
        else:
            super().step(optimizer, forgotten, answer)


def adaptive_weights(losses: Tensor, exponent: float) -> Tensor:
    """Return weights (n,) of mean 1 that are proportional to 1 / loss^exponent."""
    inverse = 1 / (losses.pow(exponent) + TINY)
    return inverse / inverse.mean()


@dataclass
class SFRon(GradientUnlearner):
    """Alternate weighted, masked ascent on the forget set with descent on the retain set (SFR-on; Huang et al. 2024).

    Before every `every`-th step on CE(D_r) there is an ascent step on the mean of w_i CE_i over a batch of D_f, with
    w_i proportional to 1 / CE_i^lambda, at the strength forget_scale (1 + cos(pi t)) / 2 for t from 0 to 1. It moves
    only weights with F_f / F_r >= threshold, where F is the mean of squared gradients of batches at the original model;
    the other weights, and their momentum, do not change, to the bit. For a forget example whose loss has reached that
    of a uniform prediction, log(classes), the ascent ends; the authors' ascent is unbounded. Their code also averages
    slow and fast weights with the factor 1, which has no effect and is left out here.

    Attributes:
        exponent: lambda; published 0.5.
        threshold: smallest F_f / F_r of a weight that an ascent step moves; published 1.
        forget_scale: strength of the ascent; published 25, for 1500 steps with lr 0.01 on a tenth of CIFAR-10.
        every: descent steps for each ascent step; published 5.
        most_norm: largest norm of the gradient of an ascent step, to which it is clipped; published 7.

    References:
        [huang2024] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li and X. Huang, "Unified Gradient-Based Machine
            Unlearning with Remain Geometry Enhancement", NeurIPS 2024. https://arxiv.org/abs/2409.19732 (code:
            github.com/K1nght/Unified-Unlearning-w-Remain-Geometry, Classification/unlearn/sfron.py)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")
    descent: ClassVar[type[Descent]] = Alternation

    epochs: int = option(8, at_least=1)
    batch_size: int = option(128, at_least=1)
    weight_decay: float = option(5e-4, at_least=0)
    schedule: str = option("cosine", choices=("cosine", "steps", "constant"))
    exponent: float = option(0.5, at_least=0)
    threshold: float = option(1.0, at_least=0)
    forget_scale: float = option(25.0, at_least=0, search=(1.0, 100.0))
    every: int = option(5, at_least=1)
    most_norm: float = option(7.0, above=0)

    def epoch_sizes(self, task: Task, epoch: int) -> list[int]:
        """Return the sizes of retain batches, and then of forget batches; see `GradientUnlearner.epoch_sizes`."""
        descent = batch_sizes(len(task.retain), self.batch_size)
        return descent + cycled_sizes(len(task.forget), math.ceil(len(descent) / self.every), self.batch_size)
