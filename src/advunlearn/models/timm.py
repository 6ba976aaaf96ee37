"""The models of timm, PyTorch Image Models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from advunlearn.data.inputs import Shape
from advunlearn.models.foreign import Foreign, extra, made_by, one_of
from advunlearn.models.model import image_shape
from advunlearn.options import option


@dataclass
class Timm(Foreign):
    """A model of timm, by name, with random weights; with `pretrained`, with weights that timm downloads.

    It is made for the number of channels of the images. Some models need the size of the images as well
    (`model.arguments.img_size=32`).

    Attributes:
        name: such as `resnet18` or `vit_tiny_patch16_224`.

    References:
        No publication. Timm names the paper of each model.
    """

    name: str = option("resnet18")

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network; see `Foreign.network`."""
        timm = extra("timm", "timm")
        one_of(self.name, timm.list_models())
        channels = image_shape(shape, "timm", side=1)
        arguments = {**self.arguments, "num_classes": classes, "in_chans": channels, "pretrained": self.pretrained}
        return made_by(timm.create_model, "timm.create_model", {"model_name": self.name, **arguments})
