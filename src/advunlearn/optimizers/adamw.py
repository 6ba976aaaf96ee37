"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import option


@dataclass
class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay, none by default.

    References:
        [loshchilov2019] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
            https://arxiv.org/abs/1711.05101
    """

    lr: float = option(2e-3, above=0)
    epochs: int = option(60, at_least=1)
    batch_size: int = option(50, at_least=1)
    beta1: float = option(0.9, at_least=0, below=1)
    beta2: float = option(0.999, at_least=0, below=1)

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimizer over these parameters."""
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(parameters, lr=self.lr, betas=betas, weight_decay=self.weight_decay, fused=True)
