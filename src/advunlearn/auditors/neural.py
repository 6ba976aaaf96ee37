"""The game's auditor as a small network over the scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.implicit import argmin
from advunlearn.options import option


@dataclass
class Neural(CrossValidated):
    """L2-regularised network of one layer of tanh units beside a linear one: a follower without closed form.

    It is fitted by the log loss, to a minimum, from random units that each audit step draws anew (the same for all
    classes and folds), and the utility is minus the mean held-out log loss, in nats. Without units it is `logistic`.

    The problem is not convex: which of its minima is found depends on the start, and the gradient is that of the one
    found, by conjugate gradients on Hessian-vector products. `argmin` says what these do where the curvature is not
    positive.

    Attributes:
        hidden: tanh units.
        regularization: (regularization / 2) |theta|^2 is added to the mean log loss, for all of theta but the bias of
            the decision value.
        damping: added to the Hessian in the implicit gradient, which is exact without; a nearly flat minimum may need
            it.
    """

    hidden: int = option(8, at_least=0)
    regularization: float = option(0.01, above=0)
    damping: float = option(0.0, at_least=0)

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decision values (b, n); see `CrossValidated.fit`."""
        p = features.shape[2] + 1
        units = 0.5 * torch.randn(self.hidden * (p + 1), generator=generator, dtype=torch.float64)
        start = F.pad(units, (p, 0)).to(features.device) * train.any(1, keepdim=True)
        ridge = torch.full_like(start, self.regularization)
        ridge[:, p - 1] = 0.0
        share = train / train.sum(1, keepdim=True).clamp(min=1).double()

        def objective(theta: Tensor, features: Tensor) -> Tensor:
            losses = self.heldout_loss(sides * network(theta, features, self.hidden))
            return (share * losses).sum(1) + (ridge / 2 * theta.square()).sum(1)

        return network(argmin(objective, features, start, self.damping), features, self.hidden)


def network(theta: Tensor, features: Tensor, hidden: int) -> Tensor:
    """Return w . x + v . tanh(U x), (b, n), with x the features (b, n, d) and, for the biases, a one.

    theta (b, d + 1 + h (d + 2)) holds w (d + 1), v (h) and U (d + 1, h).
    """
    inputs = F.pad(features, (0, 1), value=1.0)
    p = inputs.shape[2]
    linear, outer, inner = theta.split([p, hidden, p * hidden], 1)
    units = torch.tanh(inputs @ inner.reshape(len(theta), p, hidden))
    return (inputs @ linear[..., None] + units @ outer[..., None])[..., 0]
