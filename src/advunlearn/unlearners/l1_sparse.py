"""l1-sparse: fine-tuning with an l1 penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from advunlearn.options import option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.finetune import Finetune


class Penalised(Descent):
    """Add the penalty of the current epoch to the loss."""

    method: L1Sparse

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the loss with the penalty; see `Descent.loss`."""
        loss = super().loss(inputs, logits, labels, forgotten)
        strength = self.method.strength(self.epoch)
        if strength == 0:
            return loss
        return loss + strength * torch.stack([weight.abs().sum() for weight in self.network.parameters()]).sum()


@dataclass
class L1Sparse(Finetune):
    """Fine-tune on the retain set with an l1 penalty (l1-sparse; Jia et al., NeurIPS 2023).

    L = CE(D_r) + gamma_t |theta|_1 over all parameters, with gamma_t = gamma (1 - t / (E - E_0)) in epoch t of E,
    counted from 0, and gamma_t = 0 in the last E_0 epochs. It lowers the accuracy on all data somewhat, since it also
    shrinks BatchNorm's scales. With gamma = 0 it equals `finetune`.

    Attributes:
        gamma: published 5e-4, with lr 0.01, 10 epochs, weight decay 5e-4 and batches of 256.
        free_epochs: E_0, the number of last epochs without a penalty.

    References:
        [jia2023] J. Jia, J. Liu, P. Ram, Y. Yao, G. Liu, Y. Liu, P. Sharma and S. Liu, "Model Sparsity Can Simplify
            Machine Unlearning", NeurIPS 2023. https://arxiv.org/abs/2304.04934 (without pruning before; code:
            github.com/OPTML-Group/Unlearn-Sparse, unlearn/FT.py)
    """

    descent: ClassVar[type[Descent]] = Penalised

    epochs: int = option(10, at_least=1)
    gamma: float = option(5e-4, at_least=0, search=(1e-6, 1e-2))
    free_epochs: int = option(0, at_least=0)

    def conflicts(self) -> list[str]:
        """Return a line if no epoch is left for the penalty; see `Component.conflicts`."""
        if self.free_epochs < self.epochs:
            return []
        return [f"free_epochs must be less than epochs={self.epochs}, got {self.free_epochs} (try free_epochs=0)"]

    def too_large(self) -> str:
        """Return the options for the learning rate and the penalty; see `Unlearner.too_large`."""
        return f"{super().too_large()} or unlearner.gamma={self.gamma:g}"

    def strength(self, epoch: int) -> float:
        """Return gamma_t."""
        return self.gamma * max(0.0, 1 - epoch / (self.epochs - self.free_epochs))
