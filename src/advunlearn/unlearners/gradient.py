"""Base classes of unlearners by gradient steps: their options, and their loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import option
from advunlearn.training.fit import too_large
from advunlearn.unlearners.best_epoch import check_selection
from advunlearn.unlearners.descent import Descent, Follower
from advunlearn.unlearners.unlearner import Steps, Task, Unlearned, Unlearner, ordered


@dataclass
class GradientOptions(Unlearner):
    """Base class of unlearners by gradient steps: the options of these steps.

    Attributes:
        lr, epochs, batch_size, momentum, weight_decay, schedule: of the SGD steps.
        keep_epoch: `last`, or `best` by accuracy minus attack on the selection set; see `BestEpoch`.
    """

    lr: float = option(0.01, above=0, search=(1e-5, 1.0))
    epochs: int = option(30, at_least=1, search=(1, 30))
    batch_size: int = option(50, at_least=1)
    momentum: float = option(0.9, at_least=0, below=1)
    weight_decay: float = option(0.0, at_least=0)
    schedule: str = option("constant", choices=("cosine", "steps", "constant"))
    keep_epoch: str = option("last", choices=("last", "best"))

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Raise if an epoch is to be chosen without selection examples; see `Unlearner.check`."""
        if self.keep_epoch == "best":
            check_selection(labels["forget"], labels.get("selection"))

    def parts_read(self) -> tuple[str, ...]:
        """Return also the parts that the choice of an epoch uses; see `Unlearner.parts_read`."""
        chosen = ("forget", "selection") if self.keep_epoch == "best" else ()
        return ordered({*super().parts_read(), *chosen})

    def too_large(self) -> str:
        """Return the option of the steps that is to be lowered; see `Unlearner.too_large`."""
        return too_large(self, "unlearner")


@dataclass
class GradientUnlearner(GradientOptions):
    """Base class of unlearners that descend one loss: a subclass defines `reads`, and overrides `loss` or `examples`.

    Every step is one batch in training mode, in every epoch: BatchNorm normalises retain and forget examples by the
    same statistics, which do not depend on membership, and its running statistics are those of the examples of the
    loss. Each such unlearner can be the base of the game; see `SG`.

    A method that changes more than the loss, such as one with a teacher, a mask or epochs of several kinds, defines a
    subclass of `Descent`.
    """

    descent: ClassVar[type[Descent]] = Descent

    def examples(self, task: Task) -> Examples:
        """Return the examples of an epoch, before shuffling: the retain set, the forget set, or both in this order.

        By default the set or sets that `reads` names.
        """
        if "retain" not in self.reads:
            return task.forget
        return task.retain.followed_by(task.forget) if "forget" in self.reads else task.retain

    def rows(self, task: Task) -> Tensor | None:
        """Return the positions, among `examples`, that every epoch uses; None for all."""
        return None

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the scalar loss of a batch: the cross-entropy, unless overridden.

        Args:
            logits: (n, classes) float32.
            labels: (n,), those of `examples`.
            forgotten: (n,) bool, which are forget examples.
        """
        return F.cross_entropy(logits, labels)

    def epoch_sizes(self, task: Task, epoch: int) -> list[int]:
        """Return the sizes of the batches that `Descent.draw` draws in an epoch; the first epoch is 0."""
        rows = self.rows(task)
        return batch_sizes(len(self.examples(task)) if rows is None else len(rows), self.batch_size)

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the steps of all epochs, or None if `unlearn` is overridden; see `Unlearner.steps`."""
        if type(self).unlearn is not GradientUnlearner.unlearn:
            return None
        sizes = [size for epoch in range(self.epochs) for size in self.epoch_sizes(task, epoch)]
        return [Steps(len(sizes), max(sizes), self)]

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after `epochs` passes, or at the end of the best of them; see `Unlearner.unlearn`."""
        return self.descend(network, task)

    def descend(self, network: nn.Module, task: Task, follower: Callable[[], Follower] | None = None) -> Unlearned:
        """Descend the loss.

        Args:
            network: the original, which is changed in place.
            task: the request to forget.
            follower: creates the player that answers each step; called after `Descent.prepare`.
        """
        return self.descent(self, network, task).run(follower)

    def optimizer(self) -> Optimizer:
        """Return the optimizer of the steps: SGD, unless overridden."""
        return SGD(**self._step_options(), momentum=self.momentum, nesterov=False)

    def adamw(self) -> Optimizer:
        """Return AdamW with the options of the steps; `momentum` is its beta1."""
        return AdamW(**self._step_options(), beta1=self.momentum)

    def _step_options(self) -> dict[str, Any]:
        names = ("lr", "epochs", "batch_size", "weight_decay", "schedule")
        return {name: getattr(self, name) for name in names}
