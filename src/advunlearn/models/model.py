"""What a model is: options from which a network can be built for any image shape and number of classes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from advunlearn.options import Component


class Model(Component):
    """Base class of models."""

    group: ClassVar[str] = "model"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return a freshly initialised network from images (n, *shape) to logits (n, classes).

        The shape is (channels, height, width). The caller seeds torch's global generator, from which torch initialises.

        Raises:
            ValueError: in one line, if the images are too small for the network.
        """
        raise NotImplementedError


def skeleton(model: Model, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network without memory for its weights, to see whether it can be built and how large it is.

    Raises:
        ValueError: see `Model.build`.
    """
    try:
        with torch.device("meta"):
            return model.build(shape, classes)
    except (RuntimeError, NotImplementedError):  # a constructor that looks at its weights needs to have some
        return model.build(shape, classes)
