"""Fine-tuning on the retain set: the simplest unlearner, and the leader's own loss in the game."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import batch_sizes
from advunlearn.options import option
from advunlearn.progress import progress
from advunlearn.seeding import torch_stream
from advunlearn.training.fit import Diverged, mode
from advunlearn.training.sgd import SGD
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner

STREAM = "unlearn"


class Follower(Protocol):
    """Who answers the leader's steps."""

    def answer(self, step: int, epoch: int, base_loss: Tensor) -> None:
        """Add to the gradients that the base loss has just left in the network's parameters."""

    def trace(self) -> dict[str, Any]:
        """Return what was recorded, a list of values a column."""


@dataclass
class Finetune(Unlearner):
    """Go on training on the retain set alone.

    Attributes:
        lr, epochs, batch_size, momentum, weight_decay, schedule: of the SGD steps on the retain set.
    """

    lr: float = option(0.01, above=0)
    epochs: int = option(30, at_least=1)
    batch_size: int = option(50, at_least=1)
    momentum: float = option(0.9, at_least=0, below=1)
    weight_decay: float = option(0.0, at_least=0)
    schedule: str = option("constant", choices=("cosine", "steps", "constant"))

    def follower(self, network: nn.Module, task: Task) -> Follower | None:
        """Return who answers each step; fine-tuning is not a game, and nobody does."""
        return None

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after `epochs` passes over the retain set; see `Unlearner.unlearn`."""
        order = torch_stream(task.settings.seed, f"batches/{STREAM}")
        augment = torch_stream(task.settings.seed, f"augment/{STREAM}")
        steps = self.epochs * len(batch_sizes(len(task.retain), self.batch_size))
        optimizer, schedule = self._sgd().create(network.parameters(), steps)
        follower = self.follower(network, task)
        forward = torch.compile(network) if task.settings.compile else network
        step = 0
        for epoch in progress(range(self.epochs), STREAM):
            for inputs, labels in task.retain.epoch(self.batch_size, order, augment):
                with mode(network, training=True), task.settings.autocast():
                    logits = forward(inputs)
                loss = F.cross_entropy(logits.float(), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if follower is not None:
                    follower.answer(step, epoch, loss.detach())
                optimizer.step()
                schedule.step()
                step += 1
            if not math.isfinite(loss.item()):
                raise Diverged(f"unlearning diverged (loss {loss.item()}); lower unlearner.lr={self.lr}")
        return Unlearned(network.eval(), follower.trace() if follower is not None else {})

    def _sgd(self) -> SGD:
        return SGD(
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            momentum=self.momentum,
            nesterov=False,
        )
