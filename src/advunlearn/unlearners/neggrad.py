"""Gradient ascent on the forget set together with descent on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.options import option
from advunlearn.unlearners.descent import capped
from advunlearn.unlearners.gradient import GradientUnlearner


@dataclass
class NegGrad(GradientUnlearner):
    """Descend the loss of retain examples and ascend that of forget examples (NegGrad+; Kurmanji et al., NeurIPS 2023).

    L = mean over D_r u D_f of CE for retain examples and of - forget_weight * min(CE, log classes) for forget examples.
    The paper's beta CE(D_r) - (1 - beta) CE(D_f) is that up to its scale, with beta / (1 - beta) = |D_r| / (|D_f|
    forget_weight), but for the bound: unbounded, ascent wrecks a model. A forget example whose loss is that of a guess
    among all classes is not pushed any further.

    Attributes:
        forget_weight: of a forget example against a retain example.

    References:
        [kurmanji2023] M. Kurmanji, P. Triantafillou, J. Hayes and E. Triantafillou, "Towards Unbounded Machine
            Unlearning", NeurIPS 2023. https://arxiv.org/abs/2302.09880 (NegGrad+; the bound on the ascended loss is
            this project's)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    forget_weight: float = option(1.0, at_least=0, search=(0.01, 1.0))

    def too_large(self) -> str:
        """Return the rate of the steps and the weight of the ascent; see `Unlearner.too_large`."""
        return f"{super().too_large()} or unlearner.forget_weight={self.forget_weight:g}"

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the mean of signed losses; see `GradientUnlearner.loss`."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        ascended = -self.forget_weight * capped(losses, logits.shape[1])
        return torch.where(forgotten, ascended, losses).mean()
