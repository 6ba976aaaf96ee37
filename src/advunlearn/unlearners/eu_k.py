"""EU-k: retraining of the last layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from advunlearn.unlearners.cf_k import CFK, LastLayers
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.layers import check_resettable, initialise_again, split_layers


class FreshLayers(LastLayers):
    """Train the last layers only, from a fresh initialisation."""

    def prepare(self) -> None:
        """Freeze the other layers, and initialise the last ones; see `Descent.prepare`."""
        super().prepare()
        _, last = split_layers(self.network, self.method.layers)
        initialise_again(last, self.task.settings, "eu_k/initialise")


@dataclass
class EUK(CFK):
    """Train the last k layers from scratch on the retain set (EU-k; Goel et al. 2022): L = CE(D_r).

    It is exact for these layers. All other layers do not change, to the bit, as with `cf_k`, and information about the
    forget set in them stays in the model. The last layers are initialised by their own `reset_parameters`. With all
    layers it is retraining with the options of the unlearner.

    Attributes:
        layers: k; see `CFK`. SCRUB's authors use the same settings as for CF-k.

    References:
        [goel2022] S. Goel, A. Prabhu, A. Sanyal, S. Lim, P. Torr and P. Kumaraguru, "Towards Adversarial Evaluations
            for Inexact Machine Unlearning", 2022. https://arxiv.org/abs/2201.06640 (code:
            github.com/shash42/Evaluating-Inexact-Unlearning)
    """

    descent: ClassVar[type[Descent]] = FreshLayers

    def check_network(self, network: nn.Module) -> None:
        """Refuse last layers that cannot be reinitialised; see `Unlearner.check_network`."""
        _, last = split_layers(network, self.layers)
        check_resettable(last, "eu_k")
