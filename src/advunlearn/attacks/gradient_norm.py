"""The gradient-norm attack: a white-box attack (Nasr et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.gradients import squares, summarised, trainable
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Floats
from advunlearn.shadows.outputs import ShadowOutputs

if TYPE_CHECKING:
    from torch import nn

    from advunlearn.data.examples import Examples


@dataclass
class GradientNorm(Attack):
    """Call an example a member if the gradient of its loss with respect to the weights is small.

    The score is minus the Euclidean norm of the gradient of the cross-entropy with respect to all weights. The second
    score, `last_layer`, uses the weights of the last layer only: of the last module, in the order of `named_modules`,
    that has weights of its own. The model is in evaluation mode, so BatchNorm uses its running statistics, and each
    gradient depends on one example only. The gradient is that of the unmodified example, whatever `attack.queries` is.

    Nasr et al. train an attack model on the gradients and their norms of known members. Here the norm is the score, as
    in Rezaei and Liu, and no known members are needed.

    References:
        [nasr2019] M. Nasr, R. Shokri and A. Houmansadr, "Comprehensive Privacy Analysis of Deep Learning: Passive and
            Active White-box Inference Attacks against Centralized and Federated Learning", IEEE Symposium on Security
            and Privacy 2019. https://arxiv.org/abs/1812.00910
        [rezaei2021] S. Rezaei and X. Liu, "On the Difficulty of Membership Inference Attacks", CVPR 2021.
            https://arxiv.org/abs/2005.13702 (gradient norms)
    """

    needs_network: ClassVar[bool] = True

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return minus the norms, of all weights and of the last layer; see `Attack.score`.

        Raises:
            UserError: if the network is not given, or has no weights.
            ValueError: if a gradient is not finite.
        """
        if target.white_box is None:
            raise UserError("gradient_norm needs the network itself, and only its outputs are given")
        norms, last = gradient_norms(target.white_box.network, target.white_box.examples)
        return {"": -norms, "last_layer": -last}


def gradient_norms(network: nn.Module, examples: Examples) -> tuple[Floats, Floats]:
    """Return the norms (n,) of each example's gradient of the cross-entropy: of all weights, and of the last layer.

    Frozen weights count as well. Squares are summed in float64.

    Args:
        network: in evaluation mode; its weights are set to require gradients.
        examples: n of them, on the device of the network.

    Raises:
        UserError: if the network has no weights.
        ValueError: if a gradient is not finite.
    """
    names = list(trainable(network))
    if not names:
        raise UserError("gradient_norm needs a network with weights, got none")
    owner = names[-1].rpartition(".")[0]
    last = np.array([name.rpartition(".")[0] == owner for name in names])
    found = summarised(network, examples, squares)
    return np.sqrt(found.sum(1)), np.sqrt(found[:, last].sum(1))
