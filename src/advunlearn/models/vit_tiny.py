"""A small vision transformer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.inputs import Shape
from advunlearn.models.model import Model, image_shape
from advunlearn.options import UserError, option


@dataclass
class ViTTiny(Model):
    """A vision transformer (Dosovitskiy et al. 2021) of the size of DeiT-Ti (Touvron et al. 2021), for small images.

    The patches are those of images of 32x32 pixels: 4x4 pixels. There is no dropout.

    `width` is the size of a token, divided among `heads`; `depth` the number of blocks; `patch` the side of a patch in
    pixels, which divides the sides of the images.

    References:
        [dosovitskiy2021] A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
            Scale", ICLR 2021. https://arxiv.org/abs/2010.11929
        [touvron2021] H. Touvron et al., "Training Data-Efficient Image Transformers & Distillation Through Attention",
            ICML 2021. https://arxiv.org/abs/2012.12877
    """

    width: int = option(192, at_least=1)
    depth: int = option(12, at_least=1)
    heads: int = option(3, at_least=1)
    patch: int = option(4, at_least=1)

    def conflicts(self) -> list[str]:
        """Return a line for a width that the heads do not divide."""
        return (
            []
            if self.width % self.heads == 0
            else [f"width must be a multiple of heads={self.heads}, got {self.width}"]
        )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return the network; see `Model.build`."""
        channels = image_shape(shape, "vit_tiny", side=self.patch)
        assert isinstance(shape, tuple)
        sides = shape[1:]
        if any(side % self.patch for side in sides):
            raise UserError(f"vit_tiny: patch={self.patch} must divide the sides of the images, {sides[0]}x{sides[1]}")
        patches = (sides[0] // self.patch) * (sides[1] // self.patch)
        blocks = [_Block(self.width, self.heads) for _ in range(self.depth)]
        head = [nn.LayerNorm(self.width, eps=1e-6), nn.Linear(self.width, classes)]
        network = nn.Sequential(_Tokens(channels, self.width, self.patch, patches), *blocks, _First(), *head)
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        return network


class _Tokens(nn.Module):
    """Images (n, c, h, w) to tokens (n, 1 + patches, width): a class token, and one for each patch."""

    def __init__(self, channels: int, width: int, patch: int, patches: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch, patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, 1 + patches, width))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens."""
        tokens = self.projection(images).flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(tokens), -1, -1), tokens], dim=1) + self.position


class _First(nn.Module):
    """The class token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return it, (n, width)."""
        return tokens[:, 0]


class _Block(nn.Module):
    """Self-attention and two linear layers, each after a layer normalisation and with a shortcut.

    `nn.TransformerEncoderLayer` computes the same, but takes another path in evaluation mode, which rounds differently.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens (n, tokens, width) after the block."""
        parts = self.attention(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (n, heads, tokens, width of a head) each
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.projection(mixed)
        return tokens + self.mlp(self.before_mlp(tokens))
