"""CT: transposed convolution kernels, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from advunlearn.options import UserError, option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.finetune import Finetune


class Transposed(Descent):
    """Transpose the kernels first."""

    def prepare(self) -> None:
        """Transpose the kernels; see `Descent.prepare`."""
        transpose_kernels(self.network)


def square_convolutions(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions with square kernels larger than 1x1."""
    found = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    return [each for each in found if each.kernel_size[0] == each.kernel_size[1] > 1]


def transpose_kernels(network: nn.Module) -> None:
    """Swap height and width of each square kernel, in place."""
    with torch.no_grad():
        for convolution in square_convolutions(network):
            convolution.weight.copy_(convolution.weight.transpose(2, 3).clone())


@dataclass
class CT(Finetune):
    """Transpose the convolution kernels, then fine-tune on the retain set (CT, Convolution Transpose).

    CT took fifth place in the NeurIPS 2023 unlearning challenge, and was among the best two of 18 methods in a
    comparison (Cadet et al. 2024). It does not use the forget set, so every method that does should be better. Kernels
    that are not square do not change. It needs a network with square kernels, and enough fine-tuning to repair them.

    Attributes:
        lr, epochs: published 1e-3 and 3, for tens of thousands of examples; with fewer, the model stays damaged.
        batch_size, weight_decay, schedule: as published.

    References:
        [cadet2024] X. F. Cadet, A. Borovykh, M. Malekzadeh, S. Ahmadi-Abhari and H. Haddadi, "Deep Unlearn:
            Benchmarking Machine Unlearning", 2024. https://arxiv.org/abs/2410.01276 (code:
            github.com/xcadet/deepunlearn, munl/unlearning/kgltop5.py)
    """

    descent: ClassVar[type[Descent]] = Transposed

    epochs: int = option(10, at_least=1)
    batch_size: int = option(64, at_least=1)
    weight_decay: float = option(5e-4, at_least=0)
    schedule: str = option("cosine", choices=("cosine", "steps", "constant"))

    def check_network(self, network: nn.Module) -> None:
        """Refuse a network without kernels to transpose; see `Unlearner.check_network`."""
        if not square_convolutions(network):
            raise UserError(
                "ct transposes square kernels larger than 1x1, and this network has none (try the model cnn)"
            )
