"""Fisher forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.unlearners.curvature import mean_squared_gradients, sample
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner


@dataclass
class Fisher(Unlearner):
    """Add noise to every weight, with more noise the less the retain set depends on it (Golatkar et al., CVPR 2020).

    theta + n, with n_i ~ N(0, alpha min(1 / F_i, largest)), and the diagonal of the retain set's Fisher information

        F_i = mean over x in D_r of sum over classes y of p(y | x) (d log p(y | x) / d theta_i)^2.

    The gradients are those of single examples; the authors' code squares the mean gradient of a batch, so that its
    alpha depends on the batch size. It also averages the variance over a layer's inputs, multiplies it by ten in the
    last layer and in one-dimensional parameters, and resets the last layer's row of a forgotten class; none of this is
    in the formula.

    It fails abruptly: an alpha that changes nothing in one network ruins another. The noise does not depend on the
    forget set: it removes whatever information the retain set does not need.

    Attributes:
        alpha: factor of the variance. Published values are 1e-9 to 1e-6; 0 changes nothing.
        largest: upper bound of 1 / F_i; the authors use 1000.
        sample_size: retain examples that F is computed from, drawn at random. Each needs a backward pass per class.

    References:
        [golatkar2020] A. Golatkar, A. Achille and S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
            Forgetting in Deep Networks", CVPR 2020. https://arxiv.org/abs/1911.04933 (the form of the authors' code,
            github.com/AdityaGolatkar/SelectiveForgetting)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain",)

    alpha: float = option(1e-6, at_least=0, search=(1e-9, 1e-3))
    largest: float = option(1000.0, above=0)
    sample_size: int = option(1000, at_least=1)

    def too_large(self) -> str:
        """Return the option for the strength of the noise; see `Unlearner.too_large`."""
        return f"lower unlearner.alpha={self.alpha:g}"

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network with noise on its weights; see `Unlearner.unlearn`."""
        variances = self.variances(network, sample(task.retain, self.sample_size, task.settings.seed, "fisher/sample"))
        generator = torch_stream(task.settings.seed, "fisher/noise")
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if name in variances:
                    noise = torch.randn(weight.shape, generator=generator).to(weight.device)
                    weight.add_(variances[name].sqrt() * noise)
        return Unlearned(network)

    def variances(self, network: nn.Module, examples: Examples) -> dict[str, Tensor]:
        """Return the variance of the noise of each weight, by name."""
        information = mean_squared_gradients(network, examples, fisher_losses)
        return {name: self.alpha * (1 / each).clamp(max=self.largest) for name, each in information.items()}


def fisher_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return losses (n, classes) with squared gradients p(y) (d log p(y))^2, whose sum is the Fisher information."""
    logs = F.log_softmax(logits, 1)
    return logs * (logs / 2).exp().detach()
