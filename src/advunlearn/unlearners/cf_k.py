"""CF-k: fine-tuning of the last layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advunlearn.options import option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.layers import split_layers


class LastLayers(Descent):
    """Train the last layers only."""

    method: CFK

    def prepare(self) -> None:
        """Freeze the other layers; see `Descent.prepare`."""
        frozen, _ = split_layers(self.network, self.method.layers)
        self.freeze(frozen)


@dataclass
class CFK(Finetune):
    """Fine-tune the last k layers on the retain set (CF-k; Goel et al. 2022): L = CE(D_r).

    All other layers, including BatchNorm's running statistics, do not change, to the bit. A layer is a module with a
    weight of two dimensions or more, and the modules after it up to the next such module, in the order in which the
    network registers them. Information about the forget set in the frozen layers stays in the model, so the method
    forgets little; with all layers it equals `finetune`.

    Attributes:
        layers: k. SCRUB's authors train the last stage of a ResNet or the last convolution of an All-CNN, with lr 0.01,
            10 epochs and batches of 64.

    References:
        [goel2022] S. Goel, A. Prabhu, A. Sanyal, S. Lim, P. Torr and P. Kumaraguru, "Towards Adversarial Evaluations
            for Inexact Machine Unlearning", 2022. https://arxiv.org/abs/2201.06640 (code:
            github.com/shash42/Evaluating-Inexact-Unlearning)
    """

    descent: ClassVar[type[Descent]] = LastLayers

    epochs: int = option(10, at_least=1)
    batch_size: int = option(64, at_least=1)
    layers: int = option(1, at_least=1)
