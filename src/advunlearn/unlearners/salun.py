"""SalUn: random labels, with only the weights trained that are salient for the forget set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advunlearn.options import option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradients import Factors, mean_gradients
from advunlearn.unlearners.random_label import RandomLabel


class Masked(Descent):
    """Train only the weights with the largest gradients of the forget set."""

    method: SalUn

    def prepare(self) -> None:
        """Choose the weights; see `Descent.prepare`."""
        gradients = mean_gradients(self.network, self.task.forget, self.method.batch_size)
        chosen = zip(self.network.parameters(), largest_entries(gradients, self.method.share), strict=True)
        self.factors = Factors({weight: mask.to(weight.dtype) for weight, mask in chosen})

    def step(self, optimizer: torch.optim.Optimizer, forgotten: Tensor, answer: Callable[[], None]) -> None:
        """Change only the chosen weights; see `Descent.step`."""
        self.factors.step(optimizer, answer)


def largest_entries(tensors: Sequence[Tensor], share: float) -> list[Tensor]:
    """Return masks of the entries with the largest absolute values among all tensors; among equal ones, the first."""
    flat = torch.cat([tensor.abs().flatten() for tensor in tensors])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    parts = mask.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


@dataclass
class SalUn(RandomLabel):
    """Random labels, with only the weights that are salient for the forget set trained (SalUn; Fan et al., ICLR 2024).

    Only the `share` of all weights with the largest |g| is trained, where g is the gradient of CE(D_f) at the original
    model, in evaluation mode and without augmentation; the other weights do not change, to the bit. BatchNorm's running
    statistics are not weights, and change. The loss is that of `random_label`: wrong labels, drawn once, in the same
    batches as retain examples. The authors draw new labels in each epoch, which may be the true ones. As with random
    labels, too many steps make the losses of forget examples conspicuous.

    Attributes:
        share: share of the weights that is trained; published 0.5, with lr 0.013 and 10 epochs of batches of 256 for a
            tenth of CIFAR-10.

    References:
        [fan2024] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei and S. Liu, "SalUn: Empowering Machine Unlearning via
            Gradient-based Weight Saliency in Both Image Classification and Generation", ICLR 2024.
            https://arxiv.org/abs/2310.12508 (code: github.com/OPTML-Group/Unlearn-Saliency, Classification)
    """

    descent: ClassVar[type[Descent]] = Masked

    share: float = option(0.5, at_least=0, at_most=1, search=(0.1, 0.9))
