"""SCRUB: a student that moves away from its teacher on the forget set, and stays near it on the retain set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from advunlearn.data.examples import batch_sizes
from advunlearn.options import option
from advunlearn.unlearners.best_epoch import BestEpoch, check_selection
from advunlearn.unlearners.descent import Descent, capped
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.layers import frozen_copy
from advunlearn.unlearners.matched_epoch import MatchedEpoch
from advunlearn.unlearners.unlearner import Task, ordered


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) of each example (n,), for logits (n, classes)."""
    target, found = (F.log_softmax(logits / temperature, 1) for logits in (teacher, student))
    return F.kl_div(found, target, reduction="none", log_target=True).sum(1)


class Distillation(Descent):
    """A pass through the retain set in each epoch, after an ascent pass through the forget set in the first epochs."""

    method: SCRUB

    def prepare(self) -> None:
        """Copy the original as the teacher; see `Descent.prepare`."""
        self.teacher = frozen_copy(self.network)

    def draw(self) -> list[Tensor]:
        """Return forget batches (in the first epochs only), then retain batches; see `Descent.draw`."""
        ascends = self.epoch < self.method.ascent_epochs
        ascent = self.drawn(self.forgotten(), self.method.forget_batch_size) if ascends else []
        return ascent + self.drawn(self.retained())

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the loss of a batch of either kind; see `Descent.loss`."""
        with torch.no_grad():
            taught = self.teacher(inputs).float()
        distance = divergence(taught, logits, self.method.temperature)
        squared = self.method.temperature**2
        left = -squared * capped(distance, logits.shape[1])
        kept = self.method.gamma * F.cross_entropy(logits, labels, reduction="none")
        return torch.where(forgotten, left, kept + self.method.alpha * squared * distance).mean()

    def choice(self) -> BestEpoch | None:
        """Return the choice of the rewinding; see `Descent.choice`."""
        return MatchedEpoch(self.network, self.task) if self.method.rewind else super().choice()


@dataclass
class SCRUB(GradientUnlearner):
    """Move away from the original's outputs on the forget set, and stay near them on the retain set (SCRUB).

    With d(x) = T^2 KL(softmax(z_o(x) / T) || softmax(z(x) / T)), each of the first `ascent_epochs` epochs begins with a
    pass through D_f that ascends d, and every epoch has a pass through D_r that descends gamma CE + alpha d. The
    teacher z_o is the original model in evaluation mode. The ascent is bounded, unlike the authors': for a forget
    example whose KL divergence has reached log(classes), it ends. With the published learning rates it forgets almost
    nothing of a random tenth; with larger ones the ascent also lowers the accuracy on other data.

    Attributes:
        ascent_epochs: number of first epochs that have an ascent pass; the authors' `msteps`.
        forget_batch_size: batch size of the ascent; `batch_size` is that of the descent.
        temperature: T of the softmax.
        alpha, gamma: weights of d and of CE on the retain set.
        rewind: SCRUB+R: return to the epoch whose error on the forget set is nearest to the last epoch's error on
            held-out examples of the same classes, those of the selection set.

    The defaults are the authors' for CIFAR-10 and attacks (SGD, lr 5e-4, 5 epochs, 3 with an ascent, batches of 32 and
    16), except for the learning-rate schedule, which here falls at half and three quarters of the steps.

    References:
        [kurmanji2023] M. Kurmanji, P. Triantafillou, J. Hayes and E. Triantafillou, "Towards Unbounded Machine
            Unlearning", NeurIPS 2023. https://arxiv.org/abs/2302.09880 (code: github.com/meghdadk/SCRUB)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")
    descent: ClassVar[type[Descent]] = Distillation

    lr: float = option(5e-4, above=0)
    epochs: int = option(5, at_least=1)
    batch_size: int = option(32, at_least=1)
    weight_decay: float = option(5e-4, at_least=0)
    schedule: str = option("steps", choices=("cosine", "steps", "constant"))
    ascent_epochs: int = option(3, at_least=0, search=(1, 10))
    forget_batch_size: int = option(16, at_least=1)
    temperature: float = option(4.0, above=0)
    alpha: float = option(0.5, at_least=0, search=(0.01, 3.0))
    gamma: float = option(1.0, at_least=0)
    rewind: bool = option(False)

    def conflicts(self) -> list[str]:
        """Return a line for two ways to choose an epoch; see `Component.conflicts`."""
        if self.rewind and self.keep_epoch == "best":
            return ["rewind=true and keep_epoch=best both choose the epoch (try keep_epoch=last)"]
        return []

    def parts_read(self) -> tuple[str, ...]:
        """Return also the part that the rewinding uses; see `Unlearner.parts_read`."""
        return ordered({*super().parts_read(), *(("selection",) if self.rewind else ())})

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Refuse rewinding without held-out examples of the forget set's classes; see `Unlearner.check`."""
        super().check(labels)
        if self.rewind:
            check_selection(labels["forget"], labels.get("selection"), "rewind=true")

    def epoch_sizes(self, task: Task, epoch: int) -> list[int]:
        """Return the sizes of both passes; see `GradientUnlearner.epoch_sizes`."""
        ascent = batch_sizes(len(task.forget), self.forget_batch_size) if epoch < self.ascent_epochs else []
        return ascent + batch_sizes(len(task.retain), self.batch_size)
