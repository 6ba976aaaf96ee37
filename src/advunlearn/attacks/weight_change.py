"""The weight-change attack: white-box, with the model before unlearning and the model after it (Li et al. 2023)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.gradients import norms, summarised
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats
from advunlearn.shadows.outputs import ShadowOutputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from advunlearn.data.examples import Examples

logger = logging.getLogger(__name__)


@dataclass
class WeightChange(Attack):
    """Call an example forgotten if the weights have changed in the direction in which its loss rises.

    The attacker has the weights of the original and of the attacked model. With D their difference, attacked less
    original, and g(x) the gradient of the cross-entropy of the attacked model with respect to its weights, the score is
    the cosine of the angle between D and g(x). The second score, `at_original`, takes the gradient of the original.
    Each model is in evaluation mode, and each gradient that of one unmodified example, as in `gradient_norm`.

    If D does not depend on x, gradients of large networks behave like random directions: the cosine is then nearly
    normal with mean 0. A method that raises the loss of the forget set, or trains towards other labels, leaves g(x) in
    D. The original compared with itself has D = 0 and the score 0 for all examples. So has a model whose weights
    have no counterpart in the original, such as an ensemble, with a warning.

    Li et al. attack the update of a client in federated learning, whose cosine with -g(x) is large where the client has
    trained on x. Unlearning is the reverse. Maheri et al. attack unlearning in the same setting, by another test of
    gradients and the difference of the weights.

    Attributes:
        examples: forget examples, and as many test examples, that are scored; random ones if there are more.

    References:
        [li2023] J. Li, N. Li and B. Ribeiro, "Effective Passive Membership Inference Attacks in Federated Learning
            against Overparameterized Models", ICLR 2023. https://openreview.net/forum?id=QsCSLPP55Ku (the cosine)
        [maheri2026] M. M. Maheri, X. Cadet, P. Chin and H. Haddadi, "WARP: Weight Teleportation for Attack-Resilient
            Unlearning Protocols", ICLR 2026. https://arxiv.org/abs/2512.00272 (the setting)
    """

    needs_network: ClassVar[bool] = True
    needs_original: ClassVar[bool] = True

    examples: int = option(1000, at_least=1)

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the cosines, with the gradient of the attacked model and with that of the original; see `Attack`.

        Raises:
            UserError: if one of the two networks is not given.
            ValueError: if a gradient is not finite.
        """
        given = target.white_box
        if given is None or given.original is None:
            raise UserError("weight_change needs the original and the model that was made from it")
        rows = drawn(target.members, self.examples, rng)
        scores = {"": np.full(len(target.members), np.nan), "at_original": np.full(len(target.members), np.nan)}
        change = difference(given.network, given.original)
        for name, network in (("", given.network), ("at_original", given.original)):
            scores[name][rows] = 0.0 if change is None else cosines(network, given.examples.subset(rows), change)
        return scores


def drawn(members: NDArray[np.bool_], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of at most `most` members and as many others, sorted."""
    sides = (rng.permutation(np.flatnonzero(members == side))[:most] for side in (True, False))
    return np.sort(np.concatenate(list(sides)))


def difference(network: nn.Module, original: nn.Module) -> list[Tensor] | None:
    """Return each weight tensor of a network less that of the original; None if nothing changed.

    Also None, with a warning, if the two do not have weights of the same names and shapes.
    """
    ours, theirs = dict(network.named_parameters()), dict(original.named_parameters())
    if {name: each.shape for name, each in ours.items()} != {name: each.shape for name, each in theirs.items()}:
        logger.warning("weight_change: a model has other weights than the original; it has no score but 0")
        return None
    changes = [(each - theirs[name]).detach().double() for name, each in ours.items() if each.is_floating_point()]
    return changes if any(bool(each.any()) for each in changes) else None


def cosines(network: nn.Module, examples: Examples, change: Sequence[Tensor]) -> Floats:
    """Return the cosine (n,) of each example's gradient and a change of the weights; 0 where the gradient is 0."""
    import torch

    def summary(gradients: Sequence[Tensor]) -> Tensor:
        flat = zip(gradients, change, strict=True)
        along = [each.reshape(len(each), -1).double() @ own.flatten() for each, own in flat]
        return torch.stack([torch.stack(along).sum(0), norms(gradients)], 1)

    along, size = summarised(network, examples, summary).T
    length = float(np.sqrt(sum(float(each.square().sum()) for each in change)))
    return np.divide(along, size * length, out=np.zeros(len(along)), where=size > 0)
