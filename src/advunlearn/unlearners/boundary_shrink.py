"""Boundary shrink: forget examples go to their nearest other class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.options import option
from advunlearn.runtime.signals import halt_point
from advunlearn.training.fit import mode
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.perturbed import real_inputs


class ShrinkDescent(Descent):
    """The steps of `BoundaryShrink`."""

    method: BoundaryShrink

    def prepare(self) -> None:
        """Replace each label by the nearest other class; see `Descent.prepare`."""
        inputs, budget = real_inputs(self.examples, "boundary_shrink"), self.method.budget
        labels = nearest_classes(self.network, inputs, self.examples.labels, budget)
        self.examples = replace(self.examples, labels=labels)


@dataclass
class BoundaryShrink(GradientUnlearner):
    """Train forget examples on the class across the nearest decision boundary (Chen et al., CVPR 2023).

    L = CE(D_f with labels y'),   y' = the most likely class other than y at x + budget * range * sign(d CE(x, y) / dx)

    under the original, clipped to the range of the forget set's inputs. No retain example is used. In the authors' code
    y' may be y itself: if the step does not cross a boundary, the example keeps its true label.

    It was designed for forgetting whole classes. Its useful learning rates lie in a narrow range; on a random forget
    set it either changes nothing or ruins the model.

    Attributes:
        lr, epochs, batch_size, momentum: the authors use 1e-5, 10, 64 and 0.9.
        budget: largest change of an input, as a fraction of the range of the forget set's inputs; the authors use 0.1
            of the range from black to white.

    References:
        [chen2023] M. Chen, W. Gao, G. Liu, K. Peng and C. Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks
            via Shifting the Decision Boundary", CVPR 2023. https://arxiv.org/abs/2303.11570 (code:
            github.com/TY-LEE-KR/Boundary-Unlearning-Code)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)

    lr: float = option(1e-5, above=0)
    epochs: int = option(10, at_least=1)
    batch_size: int = option(64, at_least=1)
    budget: float = option(0.1, above=0, search=(0.01, 1.0))

    descent: ClassVar[type[Descent]] = ShrinkDescent


def nearest_classes(network: nn.Module, inputs: Tensor, labels: Tensor, budget: float) -> Tensor:
    """Return for each input the most likely class other than its label after one step of sign ascent, (n,).

    Args:
        network: used in evaluation mode.
        inputs, labels: (n, ...) and (n,).
        budget: length of the step, as a fraction of the range of the inputs.
    """
    low, high = inputs.min(), inputs.max()
    found = []
    for each, own in zip(inputs.split(1000), labels.split(1000), strict=True):
        moved = each.detach().requires_grad_()
        with mode(network, training=False):
            (gradient,) = torch.autograd.grad(F.cross_entropy(network(moved), own, reduction="sum"), moved)
            with torch.no_grad():
                logits = network((moved + budget * (high - low) * gradient.sign()).clamp(low, high))
        found.append(logits.scatter(1, own[:, None], -torch.inf).argmax(1))
        halt_point()
    return torch.cat(found)
