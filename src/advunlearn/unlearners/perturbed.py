"""Inputs that a method perturbs, or with respect to which it differentiates."""

from __future__ import annotations

import torch
from torch import Tensor

from advunlearn.data.examples import Examples
from advunlearn.options import UserError


def real_inputs(examples: Examples, method: str) -> Tensor:
    """Return all inputs (n, ...) as the network takes them, without augmentation.

    Raises:
        UserError: if they are not floating-point numbers: others cannot be perturbed.
    """
    parts: list[Tensor] = []
    for inputs, _ in examples.batches():
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
            raise UserError(f"unlearner {method} changes inputs a little, so they must be real numbers, got {got}")
        parts.append(inputs)
    return torch.cat(parts)


def by_example(values: Tensor, inputs: Tensor) -> Tensor:
    """Return values (n,), shaped to multiply inputs (n, ...)."""
    return values.view(-1, *[1] * (inputs.dim() - 1))
