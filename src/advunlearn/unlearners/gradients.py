"""Gradients of a network as lists of tensors: their norm and cosine, means over examples, and factors on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.training.fit import mode


def gradients_norm(tensors: list[Tensor]) -> Tensor:
    """Return the norm of all tensors, summed in float64: a float32 sum of millions of terms loses the fourth digit."""
    return torch.stack(torch._foreach_norm(tensors, 2, torch.float64)).norm()


def gradients_cosine(first: list[Tensor], first_norm: Tensor, second: list[Tensor], second_norm: Tensor) -> Tensor:
    """Return the cosine of the angle between two gradients, 0 if one vanishes, as with an auditor at its cap.

    It is |a + b|^2 / 2 - 1 for a and b of norm 1: torch has a norm of many tensors at once, but no inner product.
    """
    length = gradients_norm(list(torch._foreach_add(*_units(first, first_norm, second, second_norm))))
    exist = nonzero(torch.stack([first_norm, second_norm])).all()
    return torch.where(exist, length.square() / 2 - 1, 0.0).clamp(-1.0, 1.0)


def _units(
    first: list[Tensor], first_norm: Tensor, second: list[Tensor], second_norm: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return both gradients, scaled to norm 1; a zero gradient stays zero."""
    norms = torch.stack([first_norm, second_norm])
    scales = torch.where(nonzero(norms), 1 / norms, 0.0).to(first[0].dtype)
    return list(torch._foreach_mul(first, scales[0])), list(torch._foreach_mul(second, scales[1]))


def bisector(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """Return the bisector of two gradients at norm sqrt(2): (a + b) / sqrt(1 + cos) for a and b of norm 1.

    If one gradient is zero, the result is the other gradient at norm 1. Opposite gradients have no bisector: the
    result is zero.
    """
    norms = gradients_norm(first), gradients_norm(second)
    cosine = gradients_cosine(first, norms[0], second, norms[1])
    scale = (1 + cosine).clamp(min=1e-6).rsqrt().to(first[0].dtype)
    both = torch._foreach_add(*_units(first, norms[0], second, norms[1]))
    return list(torch._foreach_mul(both, scale))


def nonzero(norms: Tensor) -> Tensor:
    """Return which norms belong to a gradient that is not zero, apart from underflow."""
    return norms > torch.finfo(torch.float32).tiny


def mean_gradients(network: nn.Module, examples: Examples, batch_size: int, power: int = 1) -> list[Tensor]:
    """Return the gradient of the mean cross-entropy for each parameter, in evaluation mode, without augmentation.

    Args:
        network: the network; the `grad` of its parameters is neither used nor changed.
        examples: at least one.
        batch_size: examples in one pass.
        power: 2 returns the mean over batches of the squared gradient of the batch, which depends on the batch size.
    """
    parameters = list(network.parameters())
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    with mode(network, training=False):
        for inputs, labels in examples.batches(batch_size):
            loss = F.cross_entropy(network(inputs).float(), labels)
            trained = [parameter for parameter in parameters if parameter.requires_grad]
            found = dict(zip(trained, torch.autograd.grad(loss, trained, allow_unused=True), strict=True))
            for total, parameter in zip(totals, parameters, strict=True):
                gradient = found.get(parameter)
                if gradient is not None:
                    total += gradient.pow(power) * (len(labels) / len(examples))
    return totals


class Factors:
    """Factors that multiply the gradient of each weight; a weight with factor 0 does not change, to the bit.

    A gradient of 0 does not keep a weight fixed, because momentum and weight decay also change it. Weights with factor
    0, and their momentum, are therefore restored after each step.

    Args:
        factors: for each parameter a tensor of its shape, at least 0; a parameter without an entry has factor 1.
    """

    def __init__(self, factors: Mapping[nn.Parameter, Tensor]) -> None:
        self.factors = dict(factors)
        self.held = {weight: each == 0 for weight, each in factors.items() if bool((each == 0).any())}

    def step(
        self, optimizer: torch.optim.Optimizer, answer: Callable[[], None], most_norm: float | None = None
    ) -> None:
        """Take a step, after the follower's answer.

        Args:
            optimizer: of the network's parameters.
            answer: lets the follower answer, which may add to the gradients.
            most_norm: largest norm of all gradients together, to which they are clipped after the multiplication.
        """
        before = {weight: weight.detach().clone() for weight in self.held}
        states = {weight: _state(optimizer, weight) for weight in self.held}
        answer()
        for weight, factor in self.factors.items():
            if weight.grad is not None:
                weight.grad.mul_(factor)
        if most_norm is not None:
            nn.utils.clip_grad_norm_(list(self.factors), most_norm)
        optimizer.step()
        with torch.no_grad():
            for weight, held in self.held.items():
                weight.copy_(torch.where(held, before[weight], weight))
                for name, now in _state(optimizer, weight).items():
                    optimizer.state[weight][name].copy_(now.where(~held, states[weight].get(name, 0.0)))


def _state(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Tensor]:
    """Return copies of what the optimizer keeps for each entry of a weight, such as its momentum."""
    kept = optimizer.state.get(weight, {})
    return {n: v.clone() for n, v in kept.items() if isinstance(v, Tensor) and v.shape == weight.shape}
