"""Labelled examples held on the device, and batches of them without loader workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from advunlearn.data.dataset import Dataset, Pool


@dataclass(frozen=True)
class Normalise:
    """Turn uint8 (n, c, h, w) images into floats of mean 0 and deviation 1; `mean` and `std` broadcast to (c, h, w)."""

    mean: Tensor
    std: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised float32 images."""
        return (images.to(torch.float32) - self.mean) / self.std


@dataclass(frozen=True)
class FlipCrop:
    """Mirror each image with probability one half and shift it by up to `crop` pixels, zero-padded, batch by batch."""

    crop: int

    def __call__(self, images: Tensor, *generators: torch.Generator) -> Tensor:
        """Return the augmented images, (n, c, h, w) as given.

        Draws come from CPU generators whatever the device, each for its equal share of the images in order.
        """
        count, _, height, width = images.shape
        share = count // len(generators)
        drawn = [
            (
                torch.randint(0, 2 * self.crop + 1, (2, share), generator=generator),
                torch.randint(0, 2, (share,), generator=generator),
            )
            for generator in generators
        ]
        draws = torch.cat([shift for shift, _ in drawn], 1).to(images.device)
        flips = torch.cat([flip for _, flip in drawn]).bool().to(images.device)
        padded = F.pad(images, (self.crop,) * 4)
        rows = draws[0, :, None] + torch.arange(height, device=images.device)
        columns = draws[1, :, None] + torch.arange(width, device=images.device)
        columns = torch.where(flips[:, None], columns.flip(1), columns)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches of so many examples; the last may be short.

    It is never a single example, of which BatchNorm could make nothing: that one joins the batch before.
    """
    sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    if len(sizes) > 1 and sizes[-1] == 1 < batch_size:
        sizes[-2:] = [batch_size + 1]
    return sizes


def draw_batches(rows: Tensor, batch_size: int, order: torch.Generator) -> list[Tensor]:
    """Return the rows (n,), each once, in random order and in the batches of an epoch."""
    permuted = rows[torch.randperm(len(rows), generator=order).to(rows.device)]
    return list(permuted.split(batch_sizes(len(rows), batch_size)))


@dataclass(frozen=True)
class Query:
    """One fixed view of images (n, c, h, w): mirrored or not, and shifted by sixteenths of their height and width."""

    mirror: bool = False
    down: int = 0
    right: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images seen so, zero-padded."""
        if not (self.mirror or self.down or self.right):
            return images
        images = images.flip(-1) if self.mirror else images
        height, width = images.shape[-2:]
        down, right = self.down * max(height // 16, 1), self.right * max(width // 16, 1)
        pad = abs(down), abs(right)
        padded = F.pad(images, (pad[1], pad[1], pad[0], pad[0]))
        return padded[..., pad[0] - down : pad[0] - down + height, pad[1] - right : pad[1] - right + width]


_SHIFTS = sorted(itertools.product((-1, 0, 1), repeat=2), key=lambda shift: abs(shift[0]) + abs(shift[1]))
QUERIES = [Query(mirror, down, right) for down, right in _SHIFTS for mirror in (False, True)]
"""The views that an attack may ask about (Carlini et al. 2022, section VI-B): the image, its mirror image, shifts."""


@dataclass(frozen=True)
class Examples:
    """Hold inputs (n, ...) and labels (n,) on one device; batches come out normalised and, for training, augmented.

    `inputs` are uint8 images with a `normalise`, or floats that a network takes as they are.
    """

    inputs: Tensor
    labels: Tensor
    normalise: Normalise | None = None
    augment: FlipCrop | None = None
    channels_last: bool = False

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def subset(self, index: Tensor | NDArray[np.int64]) -> Examples:
        """Return the examples at these positions, in this order."""
        where = torch.as_tensor(index, device=self.labels.device)
        return replace(self, inputs=self.inputs[where], labels=self.labels[where])

    def followed_by(self, other: Examples) -> Examples:
        """Return these examples with those of `other`, which are prepared the same way, behind them."""
        return replace(
            self, inputs=torch.cat([self.inputs, other.inputs]), labels=torch.cat([self.labels, other.labels])
        )

    def prepare(self, inputs: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Return raw inputs as the network takes them, augmented if generators are given, each for an equal share."""
        if generators and self.augment is not None:
            inputs = self.augment(inputs, *generators)
        if self.normalise is not None:
            inputs = self.normalise(inputs)
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def shuffled(self, batch_size: int, order: torch.Generator) -> list[Tensor]:
        """Return the positions of every example once in random order, batch by batch; see `draw_batches`."""
        return draw_batches(torch.arange(len(self), device=self.labels.device), batch_size, order)

    def batches(self, batch_size: int = 1000, query: Query = QUERIES[0]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples in order, never augmented but all seen alike, as (inputs, labels) batches."""
        for inputs, labels in zip(self.inputs.split(batch_size), self.labels.split(batch_size), strict=True):
            yield self.prepare(query(inputs)), labels


def examples_of(pool: Pool, dataset: Dataset, device: torch.device, *, channels_last: bool) -> Examples:
    """Return the whole pool as examples on the device, uint8, so that any rows of it are one `subset` away."""
    images = torch.from_numpy(pool.images).permute(0, 3, 1, 2).contiguous().to(device)
    channels = pool.images.shape[-1]

    def per_image(statistic: NDArray[np.float32]) -> Tensor:
        whole = statistic if statistic.ndim == 3 else statistic.reshape(1, 1, channels)
        return torch.from_numpy(whole).permute(2, 0, 1).contiguous().to(device)

    augment = FlipCrop(dataset.crop) if dataset.augment == "flip_crop" else None
    labels = torch.from_numpy(pool.labels).to(device)
    return Examples(images, labels, Normalise(per_image(pool.mean), per_image(pool.std)), augment, channels_last)
