"""Wide residual networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import option


@dataclass
class WRN28(Model):
    """A wide residual network (Zagoruyko and Komodakis 2016), by default WRN-28-10, without dropout.

    `depth` is the number of convolutions, 6 k + 4 for k blocks per stage. `width` multiplies the channels of the three
    stages, 16, 32 and 64.

    References:
        [zagoruyko2016] S. Zagoruyko and N. Komodakis, "Wide Residual Networks", BMVC 2016.
            https://arxiv.org/abs/1605.07146
    """

    width: int = option(10, at_least=1)
    depth: int = option(28, at_least=10)

    def conflicts(self) -> list[str]:
        """Return a line for a depth that is not 6 k + 4."""
        near = 6 * ((self.depth - 4) // 6) + 4
        return [] if self.depth == near else [f"depth must be 6 k + 4, got {self.depth} (try depth={near})"]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        inputs = 16
        layers: list[nn.Module] = [nn.Conv2d(image_shape(shape, "wrn28", side=8), inputs, 3, padding=1, bias=False)]
        for stage in range(3):
            outputs = 16 * self.width << stage
            for block in range((self.depth - 4) // 6):
                layers.append(_Block(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        head = [nn.BatchNorm2d(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
        network = nn.Sequential(*layers, *head)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return network


class _Block(nn.Module):
    """Batch normalisation, ReLU and a 3x3 convolution, twice, with a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of the block: a shortcut that changes the channels begins after the first ReLU."""
        activated = self.before(images)
        return self.body(activated) + (images if self.shortcut is None else self.shortcut(activated))
