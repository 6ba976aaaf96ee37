"""The classification models of torchvision."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.foreign import Foreign, made_by, one_of
from advunlearn.models.model import image_shape
from advunlearn.options import OptionError, UserError, option


@dataclass
class Torchvision(Foreign):
    """A classification model of torchvision, by name, with random weights.

    Attributes:
        name: such as `resnet50` or `mobilenet_v3_small`.

    References:
        No publication. Torchvision names the paper of each model.
    """

    name: str = option("resnet18")

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network; see `Foreign.network`."""
        from torchvision import models

        one_of(self.name, models.list_models(module=models))
        channels = image_shape(shape, "torchvision", side=1)
        if self.pretrained:
            raise OptionError(["pretrained: weights of torchvision need a function of your own (try model=module)"])
        if channels != 3:
            raise UserError(f"torchvision's models need images of 3 channels, got {channels}")
        arguments = {**self.arguments, "weights": None, "num_classes": classes}
        return made_by(models.get_model_builder(self.name), self.name, arguments)
