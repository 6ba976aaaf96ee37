"""MSG: reinitialised convolution weights, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advunlearn.data.examples import Examples
from advunlearn.options import UserError, option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.gradients import Factors, mean_gradients


class PartlyFresh(Descent):
    """Reinitialise some weights of each convolution first, and train its other weights with smaller gradients."""

    method: MSG

    def prepare(self) -> None:
        """Reinitialise weights; see `Descent.prepare`."""
        generator = torch_stream(self.task.settings.seed, "msg")
        count = min(len(self.task.retain), len(self.task.forget))
        sample = self.task.retain.subset(torch.randperm(len(self.task.retain), generator=generator)[:count])
        gradients = self._difference(sample, self.task.forget)
        factors = {}
        for weight in convolution_weights(self.network):
            chosen = smallest_entries(gradients[weight], self.method.share)
            fresh = nn.init.kaiming_normal_(
                torch.empty(weight.shape), mode="fan_out", nonlinearity="relu", generator=generator
            )
            with torch.no_grad():
                weight.copy_(torch.where(chosen, fresh.to(weight), weight))
            factors[weight] = torch.where(chosen, 1.0, self.method.rest_factor).to(weight.dtype)
        self.factors = Factors(factors)

    def _difference(self, retain: Examples, forget: Examples) -> dict[nn.Parameter, Tensor]:
        both = [mean_gradients(self.network, part, self.method.batch_size) for part in (retain, forget)]
        return {weight: a - b for weight, a, b in zip(self.network.parameters(), *both, strict=True)}

    def step(self, optimizer: torch.optim.Optimizer, forgotten: Tensor, answer: Callable[[], None]) -> None:
        """Take a step with gradients multiplied by the factors; see `Descent.step`."""
        self.factors.step(optimizer, answer)


def convolution_weights(network: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the convolutions, each once."""
    layers = [each for each in network.modules() if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    found: list[nn.Parameter] = [layer.get_parameter("weight") for layer in layers]
    return list(dict.fromkeys(found))


def smallest_entries(tensor: Tensor, share: float) -> Tensor:
    """Return a mask of the entries with the smallest absolute values; among equal ones, the first."""
    mask = torch.zeros(tensor.numel(), dtype=torch.bool, device=tensor.device)
    mask[tensor.abs().flatten().argsort(stable=True)[: round(share * tensor.numel())]] = True
    return mask.view(tensor.shape)


@dataclass
class MSG(Finetune):
    """Reinitialise the weights on which the gradients of both sets agree, then fine-tune on the retain set (MSG).

    In each convolution, the `share` of weights with the smallest |g| is reinitialised (Kaiming normal, fan-out), where
    g is the mean gradient of CE over a sample of D_r, as large as D_f, minus that over D_f, at the original model in
    evaluation mode. Fine-tuning multiplies the gradients of the other convolution weights by `rest_factor`. MSG took
    second place in the NeurIPS 2023 unlearning challenge, and was among the best two of 18 methods in a comparison
    (Cadet et al. 2024). It needs a network with convolutions, and enough fine-tuning to repair them.

    Attributes:
        share: of each convolution's weights; published 0.3.
        rest_factor: published 0.1; with 0 the other weights of convolutions do not change, to the bit.
        lr, epochs: published 1e-3 and 5, for tens of thousands of examples; with fewer, the model stays damaged.
        batch_size, weight_decay: as published.
        schedule: cosine; the published one rises and falls linearly.

    References:
        [cadet2024] X. F. Cadet, A. Borovykh, M. Malekzadeh, S. Ahmadi-Abhari and H. Haddadi, "Deep Unlearn:
            Benchmarking Machine Unlearning", 2024. https://arxiv.org/abs/2410.01276 (code:
            github.com/xcadet/deepunlearn, munl/unlearning/kgltop2.py)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")
    descent: ClassVar[type[Descent]] = PartlyFresh

    epochs: int = option(10, at_least=1)
    batch_size: int = option(64, at_least=1)
    weight_decay: float = option(5e-4, at_least=0)
    schedule: str = option("cosine", choices=("cosine", "steps", "constant"))
    share: float = option(0.3, at_least=0, at_most=1, search=(0.05, 0.95))
    rest_factor: float = option(0.1, at_least=0, at_most=1)

    def check_network(self, network: nn.Module) -> None:
        """Refuse a network without convolutions; see `Unlearner.check_network`."""
        if not convolution_weights(network):
            raise UserError("msg initialises convolutions again, and this network has none (try the model cnn)")
