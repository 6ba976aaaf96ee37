"""JiT: Lipschitz regularisation around forget examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from advunlearn.options import option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import mode
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.perturbed import real_inputs


class LipschitzDescent(Descent):
    """The steps of `JiT`."""

    method: JiT

    def prepare(self) -> None:
        """Check that noise can be added to the inputs."""
        real_inputs(self.examples.subset(torch.arange(1)), "jit")
        self.generator = torch_stream(self.task.settings.seed, "jit")

    def parts(self) -> dict[str, Any]:
        """Return the generator of the noise; see `Descent.parts`."""
        return {"noise": self.generator}

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the mean slope; see `Descent.batch_loss`."""
        inputs, _ = self.examples.training_batch(draws)
        assert isinstance(inputs, Tensor)  # see `prepare`
        samples, deviation = self.method.samples, self.method.noise
        noise = deviation * torch.randn(samples, *inputs.shape, generator=self.generator)
        with mode(self.network, training=False), self.task.settings.autocast():
            return slopes(self.network, inputs, noise.to(inputs.device)).mean()


@dataclass
class JiT(GradientUnlearner):
    """Smooth the outputs around forget examples (JiT, just in time; Foster et al., 2024).

    L = mean over x in D_f and over noise e of |f(x) - f(x + e)| / |e|,   e_i ~ N(0, noise^2)

    with the logits f, in evaluation mode. Neither retain examples nor labels are used. The authors' code adds up the
    terms of a batch (its learning rates are those here divided by the batch size) and treats f(x + e) as a constant.

    It fails where it smooths the model everywhere. The learning rate that is needed depends on the network: the
    published ones span three orders of magnitude.

    Attributes:
        lr, epochs, batch_size, momentum: for random forget sets the authors use 3e-4 * 128 (VGG) to 0.1 * 128 (vision
            transformer), 1, 128 and 0.
        noise: standard deviation of the noise, in units of the network's inputs; the authors use 0.01 (VGG) to 0.5.
        samples: noise samples for each example and step.

    References:
        [foster2024jit] J. Foster, K. Fogarty, S. Schoepf, Z. Dugue, C. Oztireli and A. Brintrup, "An Information
            Theoretic Approach to Machine Unlearning", 2024. https://arxiv.org/abs/2402.01401 (code:
            github.com/jwf40/Information-Theoretic-Unlearning)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)

    lr: float = option(0.04, above=0)
    epochs: int = option(1, at_least=1)
    batch_size: int = option(128, at_least=1)
    momentum: float = option(0.0, at_least=0, below=1)
    noise: float = option(0.01, above=0, search=(1e-3, 1.0))
    samples: int = option(25, at_least=1)

    descent: ClassVar[type[Descent]] = LipschitzDescent


def slopes(network: nn.Module, inputs: Tensor, noise: Tensor) -> Tensor:
    """Return |f(x) - f(x + e)| / |e| (k, n) for inputs x (n, ...) and noise e (k, n, ...)."""
    near = network((inputs + noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
    change = (near - network(inputs)).to(noise.dtype)
    return change.norm(dim=-1) / noise.flatten(2).norm(dim=2)
