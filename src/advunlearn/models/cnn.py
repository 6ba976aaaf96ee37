"""A small convolutional network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import option


@dataclass
class CNN(Model):
    """Three 3x3 convolution blocks and a linear classifier.

    The blocks have `width`, 2 and 4 times `width` channels, and each halves the image.

    `batch_norm: false` leaves out BatchNorm, for methods that must not see batch statistics.

    References:
        No publication.
    """

    width: int = option(32, at_least=1)
    batch_norm: bool = option(True)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        colors = image_shape(shape, "cnn", side=8)
        channels = [colors, self.width, 2 * self.width, 4 * self.width]
        blocks = [part for a, b in pairwise(channels) for part in self._block(a, b)]
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))

    def _block(self, inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not self.batch_norm)
        norm = [nn.BatchNorm2d(outputs)] if self.batch_norm else []
        # The same as ReLU before MaxPool, but ReLU on a quarter of the values.
        return [convolution, *norm, nn.MaxPool2d(2), nn.ReLU()]
