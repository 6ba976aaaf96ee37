"""Checks of the caller's data and model in the Python API; `stages/data.py` has those of a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advunlearn.data.examples import Examples
from advunlearn.data.inputs import named, shape_in_words
from advunlearn.options import UserError
from advunlearn.training.fit import first_logits, largest

Part = tuple[Tensor, Tensor] | tuple[NDArray[Any], NDArray[Any]]


def read_parts(given: Mapping[str, Part | None], device: torch.device) -> dict[str, Examples]:
    """Return the given parts, on the device.

    Raises:
        UserError: in one line that begins with the name of a part, if its inputs and labels cannot be used, or if all
            its examples are in another part.
    """
    parts = {name: _read(part, name, device) for name, part in given.items() if part is not None}
    (first, shape), *others = [(name, part.shape) for name, part in parts.items()]
    for name, other in others:
        if other != shape:
            raise UserError(
                f"{name} inputs must have the shape of {first} inputs, "
                f"{shape_in_words(shape)} per example, got {shape_in_words(other)}"
            )
    contents = {name: _contents(part) for name, part in parts.items()}
    for one, two in itertools.permutations(parts, 2):
        if contents[one] <= contents[two]:
            raise UserError(f"{one} and {two} must not share examples: all those of {one} are in {two}")
    return parts


def check_model(network: nn.Module, parts: Mapping[str, Examples]) -> None:
    """Check that the model returns finite logits for these parts and has one for each class.

    Raises:
        UserError: in one line.
    """
    for name, part in parts.items():
        outputs = first_logits(network, part)
        if outputs.dim() != 2 or outputs.shape[1] < 2:
            raise UserError(
                f"the model must return logits (n, classes), two classes or more, got {tuple(outputs[:2].shape)}"
            )
        if not math.isfinite(largest(outputs)):
            raise UserError(f"the model's logits for {name} are not finite; it has diverged in its training")
        classes, last = outputs.shape[1], int(part.labels.max())
        if last >= classes:
            raise UserError(
                f"{name} labels must be at most {classes - 1}, as the model has {classes} logits, got {last}"
            )


def check_trainable(network: nn.Module) -> None:
    """Raise a UserError, in one line, if the model has no weight that an unlearner may change."""
    if not any(weight.requires_grad for weight in network.parameters()):
        raise UserError("the model has no weight to change: none has requires_grad=True")


def _read(part: Part, name: str, device: torch.device) -> Examples:
    try:
        inputs, labels = (torch.as_tensor(each) for each in part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} must be a pair (inputs, labels) of tensors or arrays of numbers ({error})") from error
    if inputs.dim() == 0 or labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise UserError(f"{name} labels must be whole numbers (n,), got {labels.dtype} {tuple(labels.shape)}")
    if len(inputs) != len(labels):
        raise UserError(f"{name} must be (inputs, labels) of one length, got {len(inputs)} and {len(labels)}")
    if len(labels) == 0:
        raise UserError(f"{name} must hold at least one example, got none")
    if labels.min() < 0:
        raise UserError(
            f"{name} labels must be at least 0, got {int(labels.min())}; leave out examples without a class"
        )
    if not inputs.isfinite().all():
        raise UserError(f"{name} inputs must be finite, got NaN or infinity")
    return Examples(_usable(inputs).to(device), _usable(labels).long().to(device))


def _usable(tensor: Tensor) -> Tensor:
    """Return a tensor for which gradients can be computed; one from inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _contents(part: Examples) -> set[int]:
    whole = [each.cpu().numpy() for each in named(part.prepared()).values()]
    return {hash(tuple(each[row].tobytes() for each in whole)) for row in range(len(part))}
