"""Unlearning by gradient steps: the options and the loop that all such unlearners share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import Diverged, GlobalGenerators, forward_of, mode, too_large
from advunlearn.training.loop import Loop
from advunlearn.unlearners.best_epoch import BestEpoch, check_selection
from advunlearn.unlearners.unlearner import Steps, Task, Unlearned, Unlearner

STREAM = "unlearn"


class Follower(Protocol):
    """Who answers the leader's steps."""

    def answer(self, step: int, epoch: int, base_loss: Tensor, lr: float) -> None:
        """Answer the gradients that the base loss has just left in the network's parameters, for a step of rate `lr`.

        The answer is added to them, or taken as a step of its own.
        """

    def trace(self) -> dict[str, Any]:
        """Return what was recorded, a list of values a column."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that one step hands to the next, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""


@dataclass
class GradientOptions(Unlearner):
    """Base of all unlearners that take gradient steps: the options of these steps.

    Attributes:
        lr, epochs, batch_size, momentum, weight_decay, schedule: of the SGD steps.
        keep_epoch: `last`, or `best` by accuracy minus attack on the selection set; see `BestEpoch`.
    """

    lr: float = option(0.01, above=0)
    epochs: int = option(30, at_least=1)
    batch_size: int = option(50, at_least=1)
    momentum: float = option(0.9, at_least=0, below=1)
    weight_decay: float = option(0.0, at_least=0)
    schedule: str = option("constant", choices=("cosine", "steps", "constant"))
    keep_epoch: str = option("last", choices=("last", "best"))

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Refuse to choose an epoch without selection examples to choose it on; see `Unlearner.check`."""
        if self.keep_epoch == "best":
            check_selection(labels["forget"], labels.get("selection"))

    def too_large(self) -> str:
        """Return the option of the steps that is to be lowered; see `Unlearner.too_large`."""
        return too_large(self, "unlearner")


@dataclass
class GradientUnlearner(GradientOptions):
    """Base of all unlearners that descend one loss: a subclass defines `examples`, and `loss` if it is another.

    Every step is one batch in training mode, in every epoch: BatchNorm normalises retain and forget examples by the
    same statistics, in which no membership shows, and its running statistics are those of what the loss is descended
    on. Each such unlearner can be the base of the game; see `SG`.
    """

    def examples(self, task: Task) -> Examples:
        """Return the examples of an epoch, which are shuffled: the retain set, followed by forget examples if any."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the scalar loss of a batch: the cross-entropy, unless it is overridden.

        Args:
            logits: (n, classes) float32.
            labels: (n,), those of `examples`.
            forgotten: (n,) bool, which are forget examples.
        """
        return F.cross_entropy(logits, labels)

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the steps of all epochs, all alike; see `Unlearner.steps`. Unknown where `unlearn` is overridden."""
        if type(self).unlearn is not GradientUnlearner.unlearn:
            return None
        sizes = batch_sizes(len(self.examples(task)), self.batch_size)
        return [Steps(self.epochs * len(sizes), max(sizes), self)]

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after `epochs` passes, or at the end of the best of them; see `Unlearner.unlearn`."""
        return self.descend(network, task)

    def descend(self, network: nn.Module, task: Task, follower: Follower | None = None) -> Unlearned:
        """Take the steps down the loss, each of them answered by the follower if there is one."""
        order = torch_stream(task.settings.seed, f"batches/{STREAM}")
        augment = torch_stream(task.settings.seed, f"augment/{STREAM}")
        examples = self.examples(task)
        steps = self.epochs * len(batch_sizes(len(examples), self.batch_size))
        optimizer, schedule = self._sgd().create(network.parameters(), steps)
        best = BestEpoch(network, task) if self.keep_epoch == "best" else None
        forward = forward_of(network, task.settings, self.batch_size)
        last_loss = torch.zeros((), device=examples.labels.device)
        parts = {
            "network": network,
            "optimizer": optimizer,
            "schedule": schedule,
            "loss": last_loss,
            "global": GlobalGenerators(last_loss.device),
            **({"follower": follower} if follower is not None else {}),
            **({"best": best} if best is not None else {}),
        }
        draw = partial(examples.shuffled, self.batch_size, order, augment)
        for epoch, batches in Loop(self.epochs, draw, [order, augment], parts, task.checkpoint, STREAM):
            for batch in batches:
                inputs, labels = examples.training_batch(batch)
                with mode(network, training=True), task.settings.autocast():
                    logits = forward(inputs)
                loss = self.loss(logits.float(), labels, batch[0] >= len(task.retain))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if follower is not None:
                    follower.answer(schedule.last_epoch, epoch, loss.detach(), float(schedule.get_last_lr()[0]))
                optimizer.step()
                schedule.step()
                last_loss.copy_(loss.detach())
            if not math.isfinite(last_loss.item()):
                raise Diverged(f"unlearning diverged (loss {last_loss.item()})")
            if best is not None:
                best.judge(schedule.last_epoch)
        trace = follower.trace() if follower is not None else {}
        if best is not None:
            best.restore()
            trace |= best.trace()
        return Unlearned(network.eval(), trace)

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
