"""What an optimizer is: how long and how a network is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from advunlearn.options import Component, option


@dataclass
class Optimizer(Component):
    """Base class of optimizers.

    Attributes:
        lr: peak learning rate.
        epochs: passes over the training examples.
        schedule: `cosine` falls to zero, `steps` is divided by ten at `milestones`, `constant` stays.
        milestones: parts of the training, in (0, 1), at which `steps` falls.
        warmup: part of the training over which the learning rate rises linearly from zero.
    """

    group: ClassVar[str] = "optimizer"

    lr: float = option(0.1, above=0)
    epochs: int = option(30, at_least=1)
    batch_size: int = option(128, at_least=1)
    weight_decay: float = option(0.0, at_least=0)
    schedule: str = option("cosine", choices=("cosine", "steps", "constant"))
    milestones: list[float] = option([0.5, 0.75], above=0, below=1)
    warmup: float = option(0.0, at_least=0, below=1)

    def create(self, parameters: Iterable[nn.Parameter], steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
        """Return torch's optimizer and the schedule, which is advanced once a step, `steps` times in all."""
        optimizer = self.torch_optimizer(parameters)
        return optimizer, LambdaLR(optimizer, lambda step: self.factor(step, steps))

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimizer over these parameters."""
        raise NotImplementedError

    def factor(self, step: int, steps: int) -> float:
        """Return what the learning rate is multiplied by at this step of `steps`."""
        rising = self.warmup * steps
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = min((step - rising) / max(steps - rising, 1), 1.0)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "steps":
            return float(0.1 ** sum(progress >= milestone for milestone in self.milestones))
        return 1.0
