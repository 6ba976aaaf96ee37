"""Transposed convolution kernels, and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from advunlearn.options import UserError, option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.finetune import Finetune


class Transposed(Descent):
    """Begin with transposed kernels."""

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

    The fifth place of the NeurIPS 2023 unlearning challenge, and among the best two of 18 methods in a comparison
    (Cadet et al. 2024). It knows nothing of the forget set, so every method that does should beat it. Kernels that are
    not square stay as they are. It needs enough fine-tuning to repair the layers, and convolutions to break.

    Attributes:
        lr, epochs: published 1e-3 and 3, for sets of tens of thousands; with less data that leaves a wrecked model.
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
            raise UserError("ct transposes square kernels larger than 1x1, and this network has none (try model=cnn)")
