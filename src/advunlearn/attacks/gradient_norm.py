"""The gradient-norm attack: a white-box attack (Nasr et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Floats
from advunlearn.shadows.outputs import ShadowOutputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from advunlearn.data.examples import Examples
    from advunlearn.data.inputs import Batch

# A vectorised batch has gradients of at most 64 MB, 4 bytes per number. Measured on a CPU, larger batches are not
# faster. Batches of fewer than SMALLEST examples, for networks with more than a million weights, are slower than a loop
# over single examples.
AT_ONCE = 1 << 24
SMALLEST, LARGEST = 16, 64


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
    weights = {name: each for name, each in network.named_parameters() if each.is_floating_point()}
    if not weights:
        raise UserError("gradient_norm needs a network with weights, got none")
    for each in weights.values():
        each.requires_grad_(True)
    owner = list(weights)[-1].rpartition(".")[0]
    last = np.array([name.rpartition(".")[0] == owner for name in weights])
    squares = np.concatenate(list(_squares(network, weights, examples)))
    if not np.isfinite(squares).all():
        raise ValueError("gradients must not hold NaN or infinity; the model has diverged")
    return np.sqrt(squares.sum(1)), np.sqrt(squares[:, last].sum(1))


def _squares(network: nn.Module, weights: Mapping[str, Tensor], examples: Examples) -> Iterator[Floats]:
    """Yield the squared norms of each batch's gradients, (b, weights): vectorised if possible, else one by one."""
    size = min(AT_ONCE // sum(each.numel() for each in weights.values()), LARGEST)
    vectorised = size >= SMALLEST
    for inputs, labels in examples.batches(size if vectorised else LARGEST):
        if vectorised:
            try:
                yield _vectorised(network, weights, inputs, labels)
                continue
            except RuntimeError:  # vmap does not support an operation of the network
                vectorised = False
        yield _one_by_one(network, weights, inputs, labels)


def _vectorised(network: nn.Module, weights: Mapping[str, Tensor], inputs: Batch, labels: Tensor) -> Floats:
    import torch
    from torch.func import functional_call, grad, vmap
    from torch.nn import functional as F

    from advunlearn.data.inputs import mapped

    def loss(weights: dict[str, Tensor], example: Batch, label: Tensor) -> Tensor:
        batch = mapped(lambda each: each[None], example)
        return F.cross_entropy(functional_call(network, weights, (batch,)).float(), label[None])

    detached = {name: each.detach() for name, each in weights.items()}
    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(detached, inputs, labels)
    squares = [each.flatten(1).double().square().sum(1) for each in gradients.values()]
    return torch.stack(squares, 1).cpu().numpy()


def _one_by_one(network: nn.Module, weights: Mapping[str, Tensor], inputs: Batch, labels: Tensor) -> Floats:
    import torch
    from torch.nn import functional as F

    from advunlearn.data.inputs import pieces

    squares = []
    for example, label in zip(pieces(inputs, 1), labels.split(1), strict=True):
        loss = F.cross_entropy(network(example).float(), label)
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        squares.append([0.0 if each is None else each.double().square().sum().item() for each in gradients])
    return np.array(squares)
