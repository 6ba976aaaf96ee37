"""A fully connected network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from advunlearn.data.inputs import Shape, shape_in_words
from advunlearn.models.model import Model
from advunlearn.options import UserError, option


@dataclass
class MLP(Model):
    """Fully connected ReLU network with `layers` hidden layers of `hidden` units.

    References:
        No publication.
    """

    hidden: int = option(256, at_least=1)
    layers: int = option(1, at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        if isinstance(shape, dict):
            raise UserError(f"mlp needs inputs in one array, got {shape_in_words(shape)}")
        widths = [math.prod(shape)] + [self.hidden] * self.layers
        hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(self.hidden, classes))
