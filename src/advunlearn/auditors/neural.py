"""The game's auditor as a small network over the scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.implicit import argmin
from advunlearn.options import option


@dataclass
class Neural(CrossValidated):
    """L2-regularised network of one hidden layer of tanh units beside a linear one: a follower without closed form.

    It is fitted by the log loss to a minimum, from a random start (the same for all folds and classes) that each audit
    step draws anew; the utility is minus the mean held-out log loss, in nats. The bias alone is not regularised.
    Without hidden units it is `logistic`.

    The problem is not convex: which of its local minima is found depends on the start. The gradient is that of the
    minimum found, by conjugate gradients on Hessian-vector products; see `argmin` for what they do where the curvature
    is not positive.

    Attributes:
        hidden: units of the hidden layer.
        regularization: (regularization / 2) |weights|^2 is added to the mean log loss.
        damping: added to the Hessian in the implicit gradient, which it bounds where a minimum is nearly flat.
    """

    hidden: int = option(8, at_least=0)
    regularization: float = option(0.01, above=0)
    damping: float = option(0.0, at_least=0)

    uninformed: ClassVar[float] = -math.log(2)

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decision values (b, n); see `CrossValidated.fit`."""
        share = train / train.sum(1, keepdim=True).clamp(min=1)

        def objective(theta: Tensor, features: Tensor) -> Tensor:
            loss = -(share * F.logsigmoid(sides * network(theta, features))).sum(1)
            return loss + self.regularization / 2 * theta[:, 1:].square().sum(1)

        start = torch.zeros(1 + features.shape[2] + self.hidden * (features.shape[2] + 2), dtype=torch.float64)
        ...
        return network(argmin(objective, features, start, self.damping), features)

    def heldout_loss(self, margins: Tensor) -> Tensor:
        """Return the log loss of margins."""
        return -F.logsigmoid(margins)


def network(theta: Tensor, features: Tensor) -> Tensor:
    """Return bias + w . x + v . tanh(U x + c), (b, n), for features x (b, n, d) and theta (b, 1 + d + h (d + 2)).

    Each row of theta holds the bias, w (d), and then (v_k, c_k, U_k) of each hidden unit k.
    """
    d = features.shape[2]
    bias, weights, units = theta[:, :1], theta[:, 1 : 1 + d], theta[:, 1 + d :].unflatten(1, (-1, d + 2))
    hidden = torch.tanh(features @ units[:, :, 2:].mT + units[:, None, :, 1])
    return bias + (features @ weights[..., None] + hidden @ units[:, :, :1])[..., 0]
