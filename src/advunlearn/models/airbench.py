"""The fast network of airbench for small images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import option

SCALE = 9  # of the logits, which are divided by it


@dataclass
class Airbench(Model):
    """The network of airbench94 (Jordan 2024), made to reach high accuracy on CIFAR-10 in few epochs.

    A 2x2 convolution, three blocks of two 3x3 convolutions with batch normalisation and GELU, and logits divided by 9.
    The 3x3 convolutions start as the identity, as far as there are channels, and at random for the others.

    Differences from the paper: its first convolution whitens patches of the training images and is then fixed, so that
    a retrained model would still contain the covariance of the images to forget. Here it starts from the cosine basis
    of the patches, which is near to their principal components, and is trained. The scales of batch normalisation are
    trained as well, and no parameter has a learning rate of its own. Test images are not augmented.

    `width` is the number of channels of the first block, 64 as published; the others have four times as many.

    References:
        [jordan2024] K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024. https://arxiv.org/abs/2404.00498
    """

    width: int = option(64, at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        colors = image_shape(shape, "airbench", side=16)
        first = nn.Conv2d(colors, 8 * colors, 2)
        with torch.no_grad():
            first.weight.copy_(torch.cat([patch_basis(colors), -patch_basis(colors)]))
        assert isinstance(shape, tuple)
        layers, inputs, sides = [first, nn.GELU()], 8 * colors, [side - 1 for side in shape[1:]]
        for outputs in (self.width, 4 * self.width, 4 * self.width):
            layers += _block(inputs, outputs)
            inputs, sides = outputs, [side // 2 for side in sides]
        kernel = tuple(min(3, side) for side in sides)
        places = int(np.prod([side // size for side, size in zip(sides, kernel, strict=True)]))
        # A mean over 1x1 pixels with another divisor is a division, by a layer that a stack of models knows.
        layers += [nn.MaxPool2d(kernel), nn.AvgPool2d(1, divisor_override=SCALE), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(places * inputs, classes, bias=False))


def patch_basis(colors: int) -> torch.Tensor:
    """Return the orthonormal cosine basis of patches of 2x2 pixels, (4 * colors, colors, 2, 2)."""
    from scipy.fft import idctn

    unit = np.eye(4 * colors).reshape(-1, colors, 2, 2)
    return torch.from_numpy(idctn(unit, axes=(1, 2, 3), norm="ortho")).float()


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    """Return two convolutions; the image is halved after the first."""
    first, second = (nn.Conv2d(size, outputs, 3, padding=1, bias=False) for size in (inputs, outputs))
    for convolution in (first, second):
        size = min(convolution.weight.shape[:2])
        nn.init.dirac_(convolution.weight.data[:size])
    norms = (nn.BatchNorm2d(outputs, eps=1e-12, momentum=0.4) for _ in range(2))
    return [first, nn.MaxPool2d(2), next(norms), nn.GELU(), second, next(norms), nn.GELU()]
