"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import option


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's by default, and weight decay.

    References:
        [sutskever2013] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
            momentum in deep learning", ICML 2013. https://proceedings.mlr.press/v28/sutskever13.html (Nesterov's
            momentum, in torch's form)
    """

    weight_decay: float = option(5e-4, at_least=0)
    momentum: float = option(0.9, at_least=0, below=1)
    nesterov: bool = option(True)

    def torch_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimizer over these parameters."""
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=nesterov,
            fused=True,
        )
