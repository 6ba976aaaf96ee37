"""Selective synaptic dampening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import option
from advunlearn.unlearners.curvature import mean_squared_gradients
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner


@dataclass
class SSD(Unlearner):
    """Shrink the weights that matter far more to the forget set than to all examples (SSD; Foster et al., AAAI 2024).

    With the importance of a weight I(S)_i = mean over (x, y) in S of (d CE(x, y) / d theta_i)^2:

        theta_i <- theta_i min(dampening I(D)_i / I(D_f)_i, 1)   where   I(D_f)_i > selection I(D)_i

    for D = D_r u D_f. The gradients are those of single examples, as in the formula. The authors' code squares the mean
    gradient of a batch, which gives larger values if D_f is smaller than a batch.

    It fails on random forget sets: there I(D_f) equals I(D) up to sampling error, so either no weight is selected or
    many useful ones are. For the same reason the result depends strongly on which class is forgotten.

    Attributes:
        selection: smallest I(D_f)_i / I(D)_i of a selected weight; the paper's alpha, 10 for ResNet-18. A very large
            value changes nothing.
        dampening: the paper's lambda, 1.

    References:
        [foster2024] J. Foster, S. Schoepf and A. Brintrup, "Fast Machine Unlearning Without Retraining Through
            Selective Synaptic Dampening", AAAI 2024. https://arxiv.org/abs/2308.07707 (code:
            github.com/if-loops/selective-synaptic-dampening)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    selection: float = option(10.0, above=0, search=(0.5, 50.0))
    dampening: float = option(1.0, at_least=0, search=(0.01, 10.0))

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network with dampened weights; see `Unlearner.unlearn`."""
        forget, retain = importance(network, task.forget), importance(network, task.retain)
        share = len(task.forget) / (len(task.forget) + len(task.retain))
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if name in forget:
                    whole = share * forget[name] + (1 - share) * retain[name]
                    weight.mul_(self.factors(whole, forget[name]))
        return Unlearned(network)

    def factors(self, whole: Tensor, forget: Tensor) -> Tensor:
        """Return the factors of weights with these importances to all examples and to the forget set."""
        dampened = (self.dampening * whole / forget).clamp(max=1.0)
        return torch.where(forget > self.selection * whole, dampened, torch.ones_like(dampened))


def importance(network: nn.Module, examples: Examples) -> dict[str, Tensor]:
    """Return the mean squared gradient of the cross-entropy for each weight, by name."""
    return mean_squared_gradients(network, examples, losses)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (n, 1) of each example."""
    return F.cross_entropy(logits, labels, reduction="none")[:, None]
