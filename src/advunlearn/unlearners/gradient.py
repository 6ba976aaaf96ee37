"""Unlearning by gradient steps: the options and the loop of all such unlearners."""

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
from advunlearn.data.inputs import same
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import UserError, option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import Diverged, GlobalGenerators, forward_of, mode, too_large
from advunlearn.training.loop import Loop
from advunlearn.unlearners.best_epoch import BestEpoch, check_selection
from advunlearn.unlearners.unlearner import Steps, Task, Unlearned, Unlearner

STREAM = "unlearn"


class Follower(Protocol):
    """A player that answers the leader's steps."""

    def answer(self, step: int, epoch: int, base_loss: Tensor, lr: float) -> None:
        """Answer the gradients of the base loss, which are in the network's parameters, for a step of rate `lr`.

        The answer is added to them, or taken as a separate step.
        """

    def trace(self) -> dict[str, Any]:
        """Return the recorded columns, each a list of values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""


@dataclass
class GradientOptions(Unlearner):
    """Base class of unlearners by gradient steps: the options of these steps.

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
        """Raise if an epoch is to be chosen without selection examples; see `Unlearner.check`."""
        if self.keep_epoch == "best":
            check_selection(labels["forget"], labels.get("selection"))

    def too_large(self) -> str:
        """Return the option of the steps that is to be lowered; see `Unlearner.too_large`."""
        return too_large(self, "unlearner")


@dataclass
class GradientUnlearner(GradientOptions):
    """Base class of unlearners that descend one loss: a subclass defines `examples`, and `loss` if it differs.

    Every step is one batch in training mode, in every epoch: BatchNorm normalises retain and forget examples by the
    same statistics, which do not depend on membership, and its running statistics are those of the examples of the
    loss. Each such unlearner can be the base of the game; see `SG`.
    """

    def examples(self, task: Task) -> Examples:
        """Return the examples of an epoch, before shuffling: the retain set, the forget set, or both in this order."""
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the scalar loss of a batch: the cross-entropy, unless overridden.

        Args:
            logits: (n, classes) float32.
            labels: (n,), those of `examples`.
            forgotten: (n,) bool, which are forget examples.
        """
        return F.cross_entropy(logits, labels)

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the steps of all epochs, or None if `unlearn` is overridden; see `Unlearner.steps`."""
        if type(self).unlearn is not GradientUnlearner.unlearn:
            return None
        sizes = batch_sizes(len(self.examples(task)), self.batch_size)
        return [Steps(self.epochs * len(sizes), max(sizes), self)]

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after `epochs` passes, or at the end of the best of them; see `Unlearner.unlearn`."""
        return self.descend(network, task)

    def descend(self, network: nn.Module, task: Task, follower: Follower | None = None) -> Unlearned:
        """Descend the loss; a follower, if given, answers each step."""
        order = torch_stream(task.settings.seed, f"batches/{STREAM}")
        augment = torch_stream(task.settings.seed, f"augment/{STREAM}")
        examples = self.examples(task)
        kept = _retained(examples, task)
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
                loss = self.loss(logits.float(), labels, batch[0] >= kept)
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


def _retained(examples: Examples, task: Task) -> int:
    """Return how many examples, the first ones, belong to the retain set; the others are forget examples.

    Raises:
        UserError: if it is neither none nor the whole retain set.
    """
    kept = len(task.retain)
    if len(examples) >= kept and same(examples.subset(torch.arange(kept)).inputs, task.retain.inputs):
        return kept
    if same(examples.inputs, task.forget.inputs):
        return 0
    raise UserError("examples must return the retain set, the forget set, or both: the retain set first")
