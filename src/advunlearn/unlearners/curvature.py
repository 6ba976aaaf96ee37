"""The importance of each weight to some examples: the mean of their squared gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from advunlearn.data.examples import Examples
from advunlearn.data.inputs import Batch, mapped
from advunlearn.options import UserError, located
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.signals import halt_point
from advunlearn.training.fit import mode

NUMBERS = 2**27  # entries of gradients in memory at once: 512 MiB
Losses = Callable[[Tensor, Tensor], Tensor]
Answer = Callable[[dict[str, Tensor], Batch], Tensor]


def mean_squared_gradients(network: nn.Module, examples: Examples, losses: Losses) -> dict[str, Tensor]:
    """Return the mean over examples of the squared gradient of their losses, in float64, by the names of the weights.

    Each example has its own gradient, in evaluation mode and without augmentation. Published codes square the mean
    gradient of a batch instead, which depends on the batch size.

    Args:
        network: the network; only weights that require gradients are in the result.
        examples: at least one.
        losses: returns k losses of each example, (n, k), from logits (n, classes) and labels (n,); their squared
            gradients are added up.

    Raises:
        UserError: if torch.func.vmap cannot run the network.
    """
    weights = {name: weight.detach() for name, weight in network.named_parameters() if weight.requires_grad}
    fixed = {name: tensor.detach() for name, tensor in network.state_dict().items() if name not in weights}

    def answer(weights: dict[str, Tensor], inputs: Batch) -> Tensor:
        alone = mapped(lambda each: each[None], inputs)
        logits: Tensor = functional_call(network, {**weights, **fixed}, (alone,))
        return logits[0]

    totals = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    at_once = max(1, min(1000, NUMBERS // sum(weight.numel() for weight in weights.values())))
    with mode(network, training=False):
        for inputs, labels in examples.batches(at_once):
            # A view of the weights for each example, not a copy: autograd then returns the gradient of each example.
            own = {name: weight.expand(len(labels), *weight.shape).requires_grad_() for name, weight in weights.items()}
            for loss in losses(_logits_alone(answer, own, inputs), labels).sum(0):
                gradients = torch.autograd.grad(loss, list(own.values()), retain_graph=True, allow_unused=True)
                for name, gradient in zip(own, gradients, strict=True):
                    if gradient is not None:
                        totals[name] += gradient.square().sum(0)
                halt_point()
    return {name: total / len(examples) for name, total in totals.items()}


def _logits_alone(answer: Answer, weights: dict[str, Tensor], inputs: Batch) -> Tensor:
    """Return the logits (n, classes) of examples, where each example has its own view of the weights.

    Raises:
        UserError: if vmap cannot run the network.
    """
    try:
        return vmap(answer)(weights, inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # vmap fails on what a network does, such as .item() or nn.LSTM, in many ways
        raise UserError(
            "unlearners fisher and ssd need gradients of single examples, which torch.func.vmap cannot compute for "
            f"this network (use another unlearner): {located(error)}"
        ) from error


def sample(examples: Examples, size: int, seed: int, stream: str) -> Examples:
    """Return `size` random examples in their original order, or all examples if there are fewer."""
    drawn = torch.randperm(len(examples), generator=torch_stream(seed, stream))[:size]
    return examples.subset(drawn.sort().values)
