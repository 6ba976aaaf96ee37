"""UGradSL: ascent on smoothed labels of the forget set together with descent on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import option
from advunlearn.unlearners.descent import Descent, capped, paired_sizes
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.unlearner import Task


class Pairs(Descent):
    """In each step, a batch of the set that the epoch passes through, with a batch of the other set."""

    method: UGradSL

    def draw(self) -> list[Tensor]:
        """Return the pairs; see `Descent.draw`."""
        sets = self.retained(), self.forgotten()
        return self.paired(*(sets if self.method.through == "retain" else sets[::-1]))

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the weighted difference of the mean losses of both sets; see `Descent.loss`."""
        kept = F.cross_entropy(logits, labels, reduction="none")
        left = smoothed_losses(logits, labels, self.method.smoothing)
        # The loss with the true label decides where the ascent ends.
        left = torch.where(capped(kept, logits.shape[1]) == kept, left, left.detach())
        count = forgotten.sum()
        weight = self.method.retain_weight
        retain = kept.where(~forgotten, 0.0).sum() / (len(kept) - count)
        return weight * retain - (1 - weight) * left.where(forgotten, 0.0).sum() / count


def smoothed_losses(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropies (n,) with the labels (1 - a) y + a / classes; a may be negative."""
    inverse = F.log_softmax(logits, 1)
    own = inverse.gather(1, labels[:, None])[:, 0]
    return -(1 - smoothing) * own - smoothing * inverse.mean(1)


@dataclass
class UGradSL(GradientUnlearner):
    """Ascend the loss of negatively smoothed labels on the forget set, and descend on the retain set (Di et al. 2026).

    L = p CE(D_r) - (1 - p) CE(D_f, (1 - a) y + a / K) with a < 0, for K classes: the ascent lowers the true class's
    probability and raises those of all classes. In each step, a batch of each set passes through the network as one
    batch. For a forget example whose loss has reached that of a uniform prediction, log(K), the ascent ends; the
    authors' ascent is unbounded. They choose a for each batch by the number of retain examples near its forget
    examples; here a is fixed, since inputs of some types have no distance. The result is sensitive to p and a: too
    small a p ruins the model.

    Attributes:
        retain_weight: p. The defaults of p and of a are this project's; the paper gives none.
        smoothing: a.
        through: the set that an epoch passes through, while batches of the other set are repeated: `forget` is UGradSL,
            with few steps; `retain` is UGradSL+, with as many as fine-tuning.

    References:
        [di2026] Z. Di, Z. Zhu, J. Jia, J. Liu, Z. Takhirov, B. Jiang, Y. Yao, S. Liu and Y. Liu, "Label Smoothing
            Improves Machine Unlearning", ICLR 2026. https://arxiv.org/abs/2406.07698 (code:
            github.com/UCSC-REAL/Label-Smoothing-Unlearn, not read)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")
    descent: ClassVar[type[Descent]] = Pairs

    epochs: int = option(10, at_least=1)
    retain_weight: float = option(0.9, at_least=0, at_most=1, search=(0.5, 0.99))
    smoothing: float = option(-0.5, at_most=0, search=(-2.0, -0.05))
    through: str = option("forget", choices=("forget", "retain"))

    def epoch_sizes(self, task: Task, epoch: int) -> list[int]:
        """Return the sizes of the pairs of batches; see `GradientUnlearner.epoch_sizes`."""
        sets = len(task.retain), len(task.forget)
        return paired_sizes(*(sets if self.through == "retain" else sets[::-1]), self.batch_size)
