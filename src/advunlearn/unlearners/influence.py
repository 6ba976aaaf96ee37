"""Influence unlearning: one Newton step to the optimum of the retain set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import option
from advunlearn.runtime.signals import halt_point
from advunlearn.training.fit import mode
from advunlearn.unlearners.curvature import sample
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner

BATCH = 250  # examples in one pass; the results do not depend on it, except for rounding
Tensors = Sequence[Tensor]


@dataclass
class Influence(Unlearner):
    """Take one damped Newton step from the optimum of all examples to that of the retain set (Koh, Liang, ICML 2017).

    theta + scale (G + damping I)^-1 v,   v = |D_f| / |D| (mean of d CE over D_f - mean of d CE over D_r)

    with the Gauss-Newton matrix G of the cross-entropy on retain examples. If the original is the optimum of CE +
    damping / 2 |theta|^2, then v is minus the gradient of that loss on D_r, so the step is Newton's, and exact for a
    quadratic loss. The inverse is applied by conjugate gradients, one pass over the sample per iteration. The published
    code for networks uses a recursion over single examples, whose result is always parallel to the first gradient (its
    estimate of G has rank one).

    It fails if the original is not at an optimum, or if G changes along the step. It works for almost linear models. In
    other networks, small damping leads far away from any solution, and large damping changes nothing.

    Attributes:
        scale: factor of the step; 1 is Newton's step, 0 changes nothing.
        damping: added to every eigenvalue of G: the weight decay of the training if the original is at the optimum of
            that loss, and more if it is not.
        iterations: largest number of iterations of conjugate gradients.
        sample_size: retain examples that G is computed from, drawn at random; the published code uses 1000.

    References:
        [koh2017] P. W. Koh and P. Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017.
            https://arxiv.org/abs/1703.04730 (the step, there for single examples)
        [jia2023] J. Jia, J. Liu, P. Ram, Y. Yao, G. Liu, Y. Liu, P. Sharma and S. Liu, "Model Sparsity Can Simplify
            Machine Unlearning", NeurIPS 2023. https://arxiv.org/abs/2304.04934 (as an unlearning method; code:
            github.com/OPTML-Group/Unlearn-Sparse)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    scale: float = option(1.0, at_least=0, search=(0.1, 10.0))
    damping: float = option(0.1, above=0, search=(1e-3, 10.0))
    iterations: int = option(20, at_least=1)
    sample_size: int = option(1000, at_least=1)

    def too_large(self) -> str:
        """Return the options for the size of the step; see `Unlearner.too_large`."""
        return f"lower unlearner.scale={self.scale:g} or raise unlearner.damping={self.damping:g}"

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network after the step; see `Unlearner.unlearn`."""
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        with mode(network, training=False):
            forget, retain = (mean_gradient(network, weights, part) for part in (task.forget, task.retain))
            share = len(task.forget) / (len(task.forget) + len(task.retain))
            target = [share * (one - other) for one, other in zip(forget, retain, strict=True)]
            examples = sample(task.retain, self.sample_size, task.settings.seed, "influence/sample")

            def product(vector: Tensors) -> list[Tensor]:
                curved = gauss_newton_product(network, weights, examples, vector)
                return [each + self.damping * own for each, own in zip(curved, vector, strict=True)]

            step = conjugate_gradients(product, target, self.iterations)
        with torch.no_grad():
            for weight, each in zip(weights, step, strict=True):
                weight.add_(self.scale * each)
        return Unlearned(network)


def mean_gradient(network: nn.Module, weights: Tensors, examples: Examples) -> list[Tensor]:
    """Return the gradient of the mean cross-entropy of the examples, for each weight tensor."""
    total = [torch.zeros_like(weight) for weight in weights]
    for inputs, labels in examples.batches(BATCH):
        loss = F.cross_entropy(network(inputs), labels, reduction="sum") / len(examples)
        _add(total, torch.autograd.grad(loss, weights, allow_unused=True))
        halt_point()
    return total


def gauss_newton_product(network: nn.Module, weights: Tensors, examples: Examples, vector: Tensors) -> list[Tensor]:
    """Return G v for the Gauss-Newton matrix G of the mean cross-entropy of the examples, for each weight tensor.

    G = mean of J^T (diag(p) - p p^T) J with the Jacobian J of the logits; J v is the gradient of u^T J v for u.
    """
    total = [torch.zeros_like(weight) for weight in weights]
    for inputs, _ in examples.batches(BATCH):
        logits = network(inputs)
        dual = torch.zeros_like(logits, requires_grad=True)
        back = torch.autograd.grad(logits, weights, dual, create_graph=True, allow_unused=True)
        terms = [(each * own).sum() for each, own in zip(back, vector, strict=True) if each is not None]
        (forward,) = torch.autograd.grad(sum(terms, start=logits.new_zeros(())), dual, retain_graph=True)
        p = logits.detach().softmax(1)
        curved = p * (forward - (p * forward).sum(1, keepdim=True)) / len(examples)
        _add(total, torch.autograd.grad(logits, weights, curved, allow_unused=True))
        halt_point()
    return total


def conjugate_gradients(
    product: Callable[[Tensors], list[Tensor]], target: list[Tensor], iterations: int, tolerance: float = 1e-6
) -> list[Tensor]:
    """Return x with product(x) = target, for a symmetric positive definite product.

    It stops early when the norm of the residual is at most `tolerance` times that of the target.
    """
    solution = [torch.zeros_like(each) for each in target]
    residual = [each.clone() for each in target]
    direction = [each.clone() for each in target]
    start = square = _dot(residual, residual)
    for _ in range(iterations):
        if square <= tolerance**2 * start:
            break
        image = product(direction)
        step = square / _dot(direction, image)
        _add(solution, [step * each for each in direction])
        _add(residual, [-step * each for each in image])
        before, square = square, _dot(residual, residual)
        direction = [one + square / before * own for one, own in zip(residual, direction, strict=True)]
    return solution


def _dot(one: Tensors, other: Tensors) -> float:
    return sum((a.double() * b.double()).sum().item() for a, b in zip(one, other, strict=True))


def _add(total: Tensors, parts: Sequence[Tensor | None]) -> None:
    """Add the parts to the total in place; None is zero."""
    for whole, part in zip(total, parts, strict=True):
        if part is not None:
            whole += part
