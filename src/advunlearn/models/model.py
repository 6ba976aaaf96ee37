"""What a model is: options from which a network can be built for any shape of inputs and number of classes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from advunlearn.data.inputs import Shape, shape_in_words
from advunlearn.options import Component, UserError


class Model(Component):
    """Base class of models."""

    group: ClassVar[str] = "model"
    pretrained = False  # whether all new networks may have the same weights; see `Foreign`

    def weights_file(self) -> Path | None:
        """Return the file of trained weights that the model's options name, for the original only; None by default."""
        return None

    def trained(self, shape: Shape, classes: int) -> nn.Module:
        """Return a network like that of `build`, with the weights of `weights_file`.

        Raises:
            UserError: in one line, if the weights do not fit the network.
        """
        raise NotImplementedError  # called only if a model has a `weights_file`

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return a freshly initialised network from inputs (n, *shape) to logits (n, classes).

        The shape of images is (channels, height, width). Named inputs are a dict, and so is their shape. The caller
        seeds torch's global generator, from which torch initialises.

        Raises:
            UserError: in one line, if the network cannot take such inputs.
        """
        raise NotImplementedError


def image_shape(shape: Shape, model: str, side: int) -> int:
    """Return the number of channels of images of this shape, (channels, height, width).

    Raises:
        UserError: in one line that names the model, unless they are images with at least `side` pixels per side.
    """
    if isinstance(shape, dict) or len(shape) != 3 or min(shape[1:]) < side:
        raise UserError(f"{model} needs images of at least {side}x{side} pixels, got {_in_words(shape)}")
    return shape[0]


def _in_words(shape: Shape) -> str:
    if isinstance(shape, dict) or len(shape) != 3:
        return f"inputs of shape {shape_in_words(shape)}"
    return shape_in_words(shape[1:])


def skeleton(model: Model, shape: Shape, classes: int) -> nn.Module:
    """Return the network without memory for its weights, to see whether it can be built and how large it is.

    Raises:
        ValueError: see `Model.build`.
    """
    try:
        with torch.device("meta"):
            return model.build(shape, classes)
    except (
        RuntimeError,
        NotImplementedError,
    ):  # of a constructor that reads its weights
        return model.build(shape, classes)
