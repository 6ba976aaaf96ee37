"""AMUN: fine-tuning on adversarial examples of the forget set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.options import option
from advunlearn.runtime.signals import halt_point
from advunlearn.training.fit import mode
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.perturbed import by_example, real_inputs
from advunlearn.unlearners.unlearner import Task


class AdversarialDescent(Descent):
    """The steps of `AMUN`."""

    method: AMUN

    def prepare(self) -> None:
        """Find the adversarial examples, and add them to the examples of an epoch; see `Descent.prepare`."""
        method, forget = self.method, self.task.forget
        inputs = real_inputs(forget, "amun")
        radius = method.radius * (inputs.max() - inputs.min()).item()
        moved, radii = adversarial(self.network, inputs, forget.labels, radius, method.attack_steps, method.doublings)
        found = radii.isfinite().nonzero()[:, 0]
        self.moved = moved[found]
        labelled = replace(forget.subset(found), labels=predictions(self.network, self.moved))
        self.examples = self.task.retain.followed_by(forget).followed_by(labelled)
        self.steps = self.method.epochs * len(batch_sizes(len(self.examples), self.method.batch_size))

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the cross-entropy on given and adversarial examples; see `Descent.batch_loss`."""
        inputs, labels = self.examples.training_batch(draws)
        place = draws[0] - len(self.task.retain) - len(self.task.forget)
        assert isinstance(inputs, Tensor)  # see `prepare`
        if len(self.moved):
            moved = self.moved[place.clamp(min=0)]
            inputs = torch.where(by_example(place >= 0, moved), moved, inputs)
        return F.cross_entropy(self.logits(inputs), labels)


@dataclass
class AMUN(GradientUnlearner):
    """Train further on all examples and on the nearest adversarial example of each forget example (AMUN, ICML 2025).

    L = CE(D_r u D_f u D_A),   D_A = {(x', the original's prediction at x') : x in D_f}

    with x' from projected gradient ascent of CE(x', y) within radius r of x (in the Euclidean norm), r doubled until
    the original no longer predicts y. D_f keeps its labels; the other label of the nearby x' lowers the confidence.
    D_A is not augmented. A forget example for which no r is large enough has no x'.

    It costs up to `attack_steps` passes for each radius and forget example. It fails where x' is far from x, as for
    models that are robust to such attacks.

    Attributes:
        lr, epochs, batch_size, schedule: the authors use 0.01 (tuned from 1e-6 to 0.1), 10 and 128, with a learning
            rate that falls in steps.
        radius: the first r, as a fraction of the range of the forget set's inputs; the authors use 0.04 of the range
            from black to white.
        attack_steps: ascent steps of length r / 10 for each r.
        doublings: largest number of doublings of r.

    References:
        [ebrahimpour2025] A. Ebrahimpour-Boroojeny, H. Sundaram and V. Chandrasekaran, "AMUN: Adversarial Machine
            UNlearning", ICML 2025. https://arxiv.org/abs/2503.00917 (code: github.com/Ali-E/AMUN)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    epochs: int = option(10, at_least=1)
    batch_size: int = option(128, at_least=1)
    schedule: str = option("steps", choices=("cosine", "steps", "constant"))
    radius: float = option(0.04, above=0)
    attack_steps: int = option(50, at_least=1)
    doublings: int = option(12, at_least=0)

    descent: ClassVar[type[Descent]] = AdversarialDescent

    def examples(self, task: Task) -> Examples:
        """Return the retain set, the forget set, and the forget set again for D_A; see `GradientUnlearner.examples`."""
        return task.retain.followed_by(task.forget).followed_by(task.forget)


def adversarial(
    network: nn.Module, inputs: Tensor, labels: Tensor, radius: float, steps: int, doublings: int
) -> tuple[Tensor, Tensor]:
    """Return misclassified inputs (n, ...) near the given ones, and the radii (n,) within which they were found.

    The radius is infinite for an input near which no misclassified one was found. Values stay within the range of the
    given inputs.

    Args:
        network: used in evaluation mode.
        inputs, labels: (n, ...) and (n,).
        radius: the first radius, in the Euclidean norm.
        steps: ascent steps for each radius, each of a tenth of the radius; they start where the last radius ended.
        doublings: largest number of doublings of the radius.
    """
    low, high = inputs.min(), inputs.max()
    moved, radii = inputs.clone(), torch.full((len(inputs),), torch.inf, dtype=inputs.dtype, device=inputs.device)
    left = torch.arange(len(inputs), device=inputs.device)
    with mode(network, training=False):
        for current in [radius * 2.0**doubling for doubling in range(doublings + 1)]:
            for step in range(steps + 1):
                away, gradient = _ascent(network, moved[left], labels[left])
                radii[left[away]] = current
                left, gradient = left[~away], gradient[~away]
                if len(left) == 0:
                    return moved, radii
                if step < steps:
                    change = moved[left] + current / 10 * gradient - inputs[left]
                    moved[left] = (inputs[left] + _shortened(change, current)).clamp(low, high)
    return moved, radii


def predictions(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the classes (n,) that the network gives inputs (n, ...), in evaluation mode."""
    with mode(network, training=False), torch.no_grad():
        return torch.cat([network(each).argmax(1) for each in inputs.split(1000)])


def _ascent(network: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which inputs are misclassified (n,), and the direction (n, ...) of steepest ascent of the loss."""
    away, directions = [], []
    for each, own in zip(inputs.split(1000), labels.split(1000), strict=True):
        each = each.detach().requires_grad_()
        logits = network(each)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, own, reduction="sum"), each)
        norms = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        away.append(logits.detach().argmax(1) != own)
        directions.append(gradient / by_example(norms, gradient))
        halt_point()
    return torch.cat(away), torch.cat(directions)


def _shortened(change: Tensor, radius: float) -> Tensor:
    """Return the changes (n, ...), projected onto the ball of this radius."""
    norms = change.flatten(1).norm(dim=1).clamp_min(radius)
    return change * by_example(radius / norms, change)
