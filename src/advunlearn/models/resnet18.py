"""ResNet-18 for small images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import option


@dataclass
class ResNet18(Model):
    """ResNet-18 (He et al. 2016) with the stem for 32x32 images: one 3x3 convolution, no max-pooling.

    `width` is the number of channels of the first stage, 64 as published.

    References:
        [he2016] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
            https://arxiv.org/abs/1512.03385
    """

    width: int = option(64, at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        colors = image_shape(shape, "resnet18", side=8)
        # torchvision's, which fixes the first stage at 64 channels: narrower ones are its blocks, stacked here.
        from torchvision.models.resnet import BasicBlock

        stem = [nn.Conv2d(colors, self.width, 3, padding=1, bias=False), nn.BatchNorm2d(self.width), nn.ReLU()]
        blocks, inputs = [], self.width
        for stage in range(4):
            outputs = self.width << stage
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(BasicBlock(inputs, outputs, stride, _shortcut(inputs, outputs, stride)))
                inputs = outputs
        network = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
