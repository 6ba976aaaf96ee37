"""The gradient of each example's loss with respect to the weights, in batches; what white-box attacks compute with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from advunlearn.runtime.arrays import Floats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from advunlearn.data.examples import Examples
    from advunlearn.data.inputs import Batch

    Summary = Callable[[Sequence[Tensor]], Tensor]
    """The gradients of b examples, (b, ...) for each weight tensor, to b rows of numbers (b, k), float64."""

# A vectorised batch has gradients of at most 64 MB, 4 bytes per number. Measured on a CPU, larger batches are not
# faster. Batches of fewer than SMALLEST examples, for networks with more than a million weights, are slower than a loop
# over single examples.
AT_ONCE = 1 << 24
SMALLEST, LARGEST = 16, 64


def trainable(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network by name, frozen ones as well; they are set to require gradients."""
    weights: dict[str, Tensor] = {name: each for name, each in network.named_parameters() if each.is_floating_point()}
    for each in weights.values():
        each.requires_grad_(True)
    return weights


def summarised(network: nn.Module, examples: Examples, summary: Summary) -> Floats:
    """Return (n, k) numbers of the gradients of the cross-entropy, one example's at a time.

    Args:
        network: in evaluation mode, with `trainable` weights.
        examples: n of them, on the device of the network.
        summary: of the gradients with respect to these weights, in their order.

    Raises:
        ValueError: if a number is not finite.
    """
    found = np.concatenate(list(_batches(network, trainable(network), examples, summary)))
    if not np.isfinite(found).all():
        raise ValueError("gradients must not hold NaN or infinity; the model has diverged")
    return found


def _batches(
    network: nn.Module, weights: Mapping[str, Tensor], examples: Examples, summary: Summary
) -> Iterator[Floats]:
    """Yield the numbers of each batch, (b, k): vectorised if possible, else one by one."""
    size = min(AT_ONCE // sum(each.numel() for each in weights.values()), LARGEST)
    vectorised = size >= SMALLEST
    for inputs, labels in examples.batches(size if vectorised else LARGEST):
        if vectorised:
            try:
                yield summary(_vectorised(network, weights, inputs, labels)).cpu().numpy()
                continue
            except RuntimeError:  # vmap does not support an operation of the network
                vectorised = False
        yield from (summary(each).cpu().numpy() for each in _one_by_one(network, weights, inputs, labels))


def _vectorised(network: nn.Module, weights: Mapping[str, Tensor], inputs: Batch, labels: Tensor) -> list[Tensor]:
    from torch.func import functional_call, grad, vmap
    from torch.nn import functional as F

    from advunlearn.data.inputs import mapped

    def loss(weights: dict[str, Tensor], example: Batch, label: Tensor) -> Tensor:
        batch = mapped(lambda each: each[None], example)
        return F.cross_entropy(functional_call(network, weights, (batch,)).float(), label[None])

    detached = {name: each.detach() for name, each in weights.items()}
    return list(vmap(grad(loss), in_dims=(None, 0, 0))(detached, inputs, labels).values())


def _one_by_one(
    network: nn.Module, weights: Mapping[str, Tensor], inputs: Batch, labels: Tensor
) -> Iterator[list[Tensor]]:
    import torch
    from torch.nn import functional as F

    from advunlearn.data.inputs import pieces

    for example, label in zip(pieces(inputs, 1), labels.split(1), strict=True):
        loss = F.cross_entropy(network(example).float(), label)
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        yield [each[None] for each in gradients]


def squares(gradients: Sequence[Tensor]) -> Tensor:
    """Return the squared norm of the gradients of each weight tensor, (b, tensors), summed in float64."""
    import torch

    return torch.stack([each.reshape(len(each), -1).double().square().sum(1) for each in gradients], 1)


def norms(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of all gradients of each example together, (b,)."""
    return squares(gradients).sum(1).sqrt()
