"""MU-Mis: suppression of the sensitivity to forget examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advunlearn.options import option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.signals import halt_point
from advunlearn.training.fit import first_logits, mode
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.perturbed import real_inputs


class SensitivityDescent(Descent):
    """The steps of `MUMis`."""

    method: MUMis

    def prepare(self) -> None:
        """Draw the other classes, and measure the original's sensitivity; see `Descent.prepare`."""
        inputs, labels = real_inputs(self.examples, "mu_mis"), self.examples.labels
        classes = first_logits(self.network, self.examples).shape[1]
        self.others = other_classes(labels, classes, self.task.settings.seed)
        self.limit = self.method.bound * mean_sensitivity(self.network, inputs, self.others)

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the mean difference of sensitivities; see `Descent.batch_loss`."""
        inputs, labels = self.examples.training_batch(draws)
        assert isinstance(inputs, Tensor)  # see `prepare`
        inputs = inputs.detach().requires_grad_()
        with mode(self.network, training=False):
            logits = self.network(inputs)
        own = sensitivity(logits, labels, inputs)
        return (own - sensitivity(logits, self.others[draws[0]], inputs).clamp(max=self.limit)).mean()


@dataclass
class MUMis(GradientUnlearner):
    """Lower the input sensitivity of the label's logit relative to that of another class (MU-Mis, ICLR 2026).

    L = mean over D_f of |d z_y / dx|^2 - min(|d z_y' / dx|^2, bound S),   y' != y drawn once for each example

    with the logits z, in evaluation mode, and S the mean of |d z_y' / dx|^2 over D_f under the original. No retain
    example is used. Without the bound the second term could grow without limit; the paper instead stops when the
    sensitivity of the other class has recovered.

    It needs a double backward pass in each step. It was designed for forgetting whole classes; on random forget sets a
    third-party comparison finds it worse than methods that use the retain set.

    Attributes:
        lr: 1e-4 in a third-party port; the authors' code was not available.
        bound: upper bound of the other class's sensitivity, as a multiple of the mean S under the original.

    References:
        [cheng2026] X. Cheng, Z. Huang, W. Zhou, Z. He, R. Yang, Y. Wu and X. Huang, "Remaining-data-free Machine
            Unlearning by Suppressing Sample Contribution", ICLR 2026. https://arxiv.org/abs/2402.15109 (code:
            github.com/poppopbean0903/MU-Mis)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)

    lr: float = option(1e-4, above=0)
    epochs: int = option(5, at_least=1)
    bound: float = option(2.0, at_least=0, search=(0.1, 10.0))

    descent: ClassVar[type[Descent]] = SensitivityDescent


def sensitivity(logits: Tensor, classes: Tensor, inputs: Tensor) -> Tensor:
    """Return the squared norm (n,) of the gradient of a class's logit with respect to each input.

    Args:
        logits: (n, classes), computed from `inputs`; the result is differentiable with respect to the weights.
        classes: (n,), the class of each input.
        inputs: (n, ...), which require gradients.
    """
    chosen = logits.gather(1, classes[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, inputs, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def mean_sensitivity(network: nn.Module, inputs: Tensor, classes: Tensor) -> float:
    """Return the mean squared norm of the gradients of these classes' logits, in evaluation mode."""
    total = 0.0
    for each, own in zip(inputs.split(1000), classes.split(1000), strict=True):
        each = each.detach().requires_grad_()
        with mode(network, training=False):
            total += sensitivity(network(each), own, each).detach().sum().item()
        halt_point()
    return total / len(inputs)


def other_classes(labels: Tensor, classes: int, seed: int) -> Tensor:
    """Return another class for each label (n,), drawn uniformly."""
    shift = torch.randint(1, classes, (len(labels),), generator=torch_stream(seed, "mu_mis"))
    return (labels + shift.to(labels.device)) % classes
