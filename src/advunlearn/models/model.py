"""What a model is: options from which a network can be built for any image shape and number of classes."""

from __future__ import annotations

from torch import nn

from advunlearn.options import Component


class Model(Component):
    """Base of all models."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return a freshly initialised network from images (n, *shape), shape = (channels, height, width), to logits
        (n, classes).

        The caller seeds torch's global generator, from which torch initialises.

        Raises:
            ValueError: in one line, if the images are too small for the network.
        """
        raise NotImplementedError
