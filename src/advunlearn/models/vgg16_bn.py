"""VGG-16 with batch normalisation for small images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import option

STAGES = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))  # channels of the convolutions, as multiples of `width`


@dataclass
class VGG16BN(Model):
    """VGG-16 (Simonyan and Zisserman 2015) with batch normalisation, as it is used for images of 32x32 pixels.

    A single linear layer after the convolutions replaces the three of the paper, which are made for 224x224 pixels.

    `width` is the number of channels of the first stage, 64 as published.

    References:
        [simonyan2015] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
            Recognition", ICLR 2015. https://arxiv.org/abs/1409.1556
    """

    width: int = option(64, at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        channels = image_shape(shape, "vgg16_bn", side=32)  # each of the five stages halves them
        layers: list[nn.Module] = []
        for stage in STAGES:
            for outputs in (multiple * self.width for multiple in stage):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network
