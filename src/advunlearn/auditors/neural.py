"""The game's auditor as a small network over the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.solvers.implicit import argmin
from advunlearn.options import option
from advunlearn.runtime.devices import to_device


@dataclass
class Neural(CrossValidated):
    """L2-regularised network: a layer of tanh units in parallel with a linear layer. It has no closed form.

    It is fitted by the log loss, to a minimum, from random units that each audit step draws anew (the same for all
    classes and folds), and the utility is minus the mean held-out log loss, in nats. Without units it is `logistic`.

    The problem is not convex: which of its minima is found depends on the start, and the gradient is that of the one
    found; see `argmin`. It holds the Hessian, of (d + 1) + h (d + 2) rows for h units over d score columns.

    Attributes:
        hidden: tanh units.
        regularization: (regularization / 2) |theta|^2 is added to the mean log loss, for all of theta but the bias of
            the decision value.
        damping: added to the Hessian in the implicit gradient, which is exact without; a nearly flat minimum may need
            it.

    References:
        No publication.
        The game that it plays is [di2025], https://arxiv.org/abs/2406.07687.
    """

    hidden: int = option(8, at_least=0)
    regularization: float = option(0.01, above=0)
    damping: float = option(0.0, at_least=0)

    on_device: ClassVar[bool] = True  # its Hessians are large enough for a GPU

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Return the decision values (b, n); see `CrossValidated.fit`."""
        inputs = F.pad(features, (0, 1), value=1.0)
        p = inputs.shape[2]
        units = 0.5 * torch.randn(self.hidden * (p + 1), generator=generator, dtype=torch.float64)
        start = to_device(F.pad(units, (p, 0)), features.device) * train.any(1, keepdim=True)
        ridge = torch.full_like(start[:1], self.regularization)
        ridge[:, p - 1] = 0.0
        share = train / train.sum(1, keepdim=True).clamp(min=1).double()
        theta = argmin(lambda theta, x: expand(theta, x, sides, share, ridge), inputs, start, self.damping)
        return network(theta, inputs)


def network(theta: Tensor, inputs: Tensor) -> Tensor:
    """Return w . x + v . tanh(U x), (b, n), of inputs x (b, n, p): the features and, for the biases, a one.

    theta (b, p + h + p h) holds w (p), v (h) and U (p, h).
    """
    linear, outer, inner = _split(theta, inputs)
    return (inputs @ linear + torch.tanh(inputs @ inner) @ outer).squeeze(2)


def expand(theta: Tensor, inputs: Tensor, sides: Tensor, share: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return share . log(1 + exp(-sides * network)) + ridge / 2 . theta^2 and its first two derivatives by theta.

    Args:
        theta, inputs: see `network`; theta is (b, q).
        sides, share: (b, n), the sign and the weight of each row.
        ridge: (1, q).

    Returns:
        The value (b,), gradient (b, q) and Hessian (b, q, q); the Hessian is a constant to autograd.
    """
    linear, outer, inner = _split(theta, inputs)
    units = torch.tanh(inputs @ inner)
    margins = sides * (inputs @ linear + units @ outer).squeeze(2)
    value = (share * F.softplus(-margins)).sum(1) + (ridge * theta.square()).sum(1) / 2
    # f being the network, its derivative by v is the units, and by U the product of x with what lets U through.
    gates = 1 - units.square()
    jacobian = torch.cat([inputs, units, _products(inputs, gates * outer.mT)], 2)
    miss = torch.sigmoid(-margins)
    force = (-share * sides * miss).unsqueeze(2)
    gradient = torch.bmm(force.mT, jacobian).squeeze(1) + ridge * theta
    with torch.no_grad():
        hessian = jacobian.mT @ (jacobian * (share * miss * (1 - miss)).unsqueeze(2))
        hessian.diagonal(dim1=1, dim2=2).add_(ridge)
        # f bends along a unit's v and U, and along its U alone; never along two units' at once.
        p, h = inner.shape[1:]
        v, u = slice(p, p + h), slice(p + h, None)
        mixed = inputs.mT @ (force * gates)
        hessian[:, v, u].unflatten(2, (p, h)).diagonal(dim1=1, dim2=3).add_(mixed)
        hessian[:, u, v].unflatten(1, (p, h)).diagonal(dim1=2, dim2=3).add_(mixed)
        bend = inputs.mT @ _products(inputs, -2 * force * units * gates * outer.mT)
        blocks = hessian[:, u, u].unflatten(2, (p, h)).unflatten(1, (p, h)).diagonal(dim1=2, dim2=4)
        blocks.add_(bend.unflatten(2, (p, h)))
    return value, gradient, hessian


def _split(theta: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return w (b, p, 1), v (b, h, 1) and U (b, p, h); see `network`."""
    p = inputs.shape[2]
    h = (theta.shape[1] - p) // (p + 1)
    linear, outer, inner = theta.split([p, h, p * h], 1)
    return linear.unsqueeze(2), outer.unsqueeze(2), inner.unflatten(1, (p, h))


def _products(inputs: Tensor, units: Tensor) -> Tensor:
    """Return the products (b, n, p h) of inputs (b, n, p) with units (b, n, h), laid out as U is in theta."""
    return (inputs.unsqueeze(3) * units.unsqueeze(2)).flatten(2)
