"""Gradient ascent on the forget set."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import option
from advunlearn.training.fit import predict
from advunlearn.unlearners.descent import AtEpoch, Descent, capped
from advunlearn.unlearners.gradient import GradientUnlearner

logger = logging.getLogger(__name__)


class Ascent(Descent):
    """Stop before the first epoch at whose start the forget set's mean loss has reached the ceiling."""

    method: GradientAscent

    def prepare(self) -> None:
        """Start without a measured loss; see `Descent.prepare`."""
        self.measured = AtEpoch()

    def parts(self) -> dict[str, Any]:
        """Return the loss at the beginning of the epoch; see `Descent.parts`."""
        return {"measured": self.measured}

    def goes_on(self) -> bool:
        """Return whether the forget set's mean loss is below the ceiling; see `Descent.goes_on`."""
        loss = self.measured.of(self.epoch, self._forget_loss)
        if loss >= self.method.ceiling:
            words = "gradient ascent stops before epoch %d: the forget loss is %.3g times that of a uniform prediction"
            logger.info(words, self.epoch, loss)
        return loss < self.method.ceiling

    def _forget_loss(self) -> float:
        """Return the mean loss in units of log(classes), the loss of a uniform prediction."""
        logits = predict(self.network, self.task.forget).double()
        return F.cross_entropy(logits, self.task.forget.labels.cpu()).item() / math.log(logits.shape[1])


@dataclass
class GradientAscent(GradientUnlearner):
    """Ascend the loss of the forget set (NegGrad; Golatkar et al., CVPR 2020): L = - CE(D_f).

    It uses no retain example. Unbounded ascent ruins the model within a few steps. Here the ascent ends for a forget
    example whose loss has reached the ceiling, which is `ceiling` times the loss of a uniform prediction, log(classes).
    Unlearning stops before the first epoch at whose start the mean loss has reached the ceiling. Too small a learning
    rate forgets nothing, and a slightly larger one lowers the accuracy on all data. A ruined model is reported as
    collapsed.

    Attributes:
        lr: published values are 1e-4 for whole classes (Jia et al. 2023) and 5e-4 to 1e-3 for random examples (the
            authors of SalUn), each for 5 epochs of batches of 256.
        ceiling: loss at which the ascent ends, in units of log(classes).

    References:
        [golatkar2020] A. Golatkar, A. Achille and S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
            Forgetting in Deep Networks", CVPR 2020. https://arxiv.org/abs/1911.04933 (a baseline there; the ceiling is
            this project's; code: github.com/OPTML-Group/Unlearn-Sparse, unlearn/GA.py)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)
    descent: ClassVar[type[Descent]] = Ascent

    lr: float = option(1e-3, above=0)
    epochs: int = option(5, at_least=1)
    ceiling: float = option(1.0, above=0, search=(0.1, 10.0))

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return minus the cross-entropy below the ceiling; see `GradientUnlearner.loss`."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        return -capped(losses, logits.shape[1], self.ceiling).mean()
