"""Boundary expand: forget examples go to an extra class, which is pruned at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import UserError, option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import mode
from advunlearn.unlearners.descent import Descent, Follower
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.unlearner import Unlearned


class ExpandDescent(Descent):
    """The steps of `BoundaryExpand`."""

    def run(self, follower: Callable[[], Follower] | None = None) -> Unlearned:
        """Train the network with an extra class, and return it without that class; see `Descent.run`."""
        network = self.network
        name, head = linear_head(network, self.examples)
        expanded = Expanded(head, torch_stream(self.task.settings.seed, "boundary_expand"))
        self.network = _with_layer(network, name, expanded)
        try:
            trace = super().run(follower).trace
        finally:
            network = _with_layer(network, name, head)
        return Unlearned(network.eval(), trace)


@dataclass
class BoundaryExpand(GradientUnlearner):
    """Train forget examples on an extra class, then remove that class (Chen et al., CVPR 2023).

    L = CE of D_f under the label C, of a network whose last linear layer has C + 1 outputs

    for C classes. The extra output exists only during the steps; the result has C outputs. Some other implementations
    keep the extra output, so that every forget example counts as misclassified. No retain example is used.

    It fails where boundary shrink fails (see `BoundaryShrink`), and where the removal of the extra class undoes the
    unlearning, because the features still determine the true class.

    Attributes:
        lr, epochs, batch_size, momentum: the authors use 1e-5, 10, 64 and 0.9.

    References:
        [chen2023] M. Chen, W. Gao, G. Liu, K. Peng and C. Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks
            via Shifting the Decision Boundary", CVPR 2023. https://arxiv.org/abs/2303.11570 (code:
            github.com/TY-LEE-KR/Boundary-Unlearning-Code)
    """

    reads: ClassVar[tuple[str, ...]] = ("forget",)

    lr: float = option(1e-5, above=0)
    epochs: int = option(10, at_least=1)
    batch_size: int = option(64, at_least=1)

    descent: ClassVar[type[Descent]] = ExpandDescent

    def loss(self, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the cross-entropy of the last class; see `GradientUnlearner.loss`."""
        return F.cross_entropy(logits, torch.full_like(labels, logits.shape[1] - 1))


class Expanded(nn.Module):
    """A linear layer that has an extra output, initialised at random, in training mode only."""

    def __init__(self, head: nn.Linear, generator: torch.Generator) -> None:
        super().__init__()
        self.head = head
        self.extra = nn.utils.skip_init(nn.Linear, head.in_features, 1, dtype=head.weight.dtype)
        with torch.no_grad():
            for weight in self.extra.parameters():
                weight.uniform_(-1, 1, generator=generator)
                weight /= math.sqrt(head.in_features)
        self.extra.to(head.weight.device)

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs (n, classes + 1), or (n, classes) in evaluation mode."""
        outputs: Tensor = self.head(features)
        return torch.cat([outputs, self.extra(features)], -1) if self.training else outputs


def linear_head(network: nn.Module, examples: Examples) -> tuple[str, nn.Linear]:
    """Return the linear layer whose outputs are the network's logits, and its name before it.

    Raises:
        UserError: if the logits are not the outputs of a linear layer.
    """
    inputs, _ = next(examples.subset(torch.arange(1)).batches())
    outputs: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name, layer in layers.items()
    ]
    with mode(network, training=False), torch.no_grad():
        logits = network(inputs)
    for hook in hooks:
        hook.remove()
    heads = [name for name, output in outputs.items() if output.shape == logits.shape and output.equal(logits)]
    if not heads:
        raise UserError("unlearner boundary_expand needs a network whose last layer is an nn.Linear")
    return heads[-1], layers[heads[-1]]


def _with_layer(network: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """Return the network after replacing its layer of this name; the new layer if the name is empty."""
    if not name:
        return layer
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
    return network
