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
from advunlearn.runtime.devices import to_device


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
    """Mirror each image with probability one half and shift it by up to `crop` pixels, zero-padded."""

    crop: int

    def draw(self, sizes: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return draws for batches of these sizes, int64 (3, n) on the CPU: a shift down and right, and 1 to mirror.

        Numbers are drawn batch by batch, so that the first batches do not depend on how many follow.
        """
        drawn = []
        for size in sizes:
            shift = torch.randint(0, 2 * self.crop + 1, (2, size), generator=generator)
            drawn.append(torch.cat([shift, torch.randint(0, 2, (1, size), generator=generator)]))
        return torch.cat(drawn, 1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the augmented images (n, c, h, w), by their draws (3, n)."""
        count, _, height, width = images.shape
        padded = F.pad(images, (self.crop,) * 4)
        rows = draws[0, :, None] + torch.arange(height, device=images.device)
        columns = draws[1, :, None] + torch.arange(width, device=images.device)
        columns = torch.where(draws[2, :, None] > 0, columns.flip(1), columns)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Return the sizes of an epoch's batches of so many examples; the last may be short.

    It is never a single example, which BatchNorm cannot normalise: that one joins the previous batch.
    """
    sizes = [min(batch_size, count - start) for start in range(0, count, batch_size)]
    if len(sizes) > 1 and sizes[-1] == 1 < batch_size:
        sizes[-2:] = [batch_size + 1]
    return sizes


@dataclass(frozen=True)
class Query:
    """One fixed view of images (n, c, h, w): mirrored or not, and shifted by sixteenths of their height and width."""

    mirror: bool = False
    down: int = 0
    right: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the view of the images, zero-padded."""
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
    """Inputs (n, ...) and labels (n,) on one device; batches are normalised and, for training, augmented.

    `inputs` are uint8 images with a `normalise`, or floats that a network takes unchanged.
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
        where = to_device(torch.as_tensor(index), self.labels.device)
        return replace(self, inputs=self.inputs[where], labels=self.labels[where])

    def followed_by(self, other: Examples) -> Examples:
        """Return these examples followed by those of `other`, which must be prepared in the same way."""
        return replace(
            self, inputs=torch.cat([self.inputs, other.inputs]), labels=torch.cat([self.labels, other.labels])
        )

    def prepare(self, inputs: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return raw inputs as the network takes them, augmented if draws are given; see `FlipCrop`."""
        if draws is not None and self.augment is not None:
            inputs = self.augment(inputs, draws)
        if self.normalise is not None:
            inputs = self.normalise(inputs)
        if self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def draw(
        self, batch_size: int, order: torch.Generator, augment: torch.Generator, rows: Tensor | None = None
    ) -> Tensor:
        """Return the draws of an epoch, int64 (1, n) or, with augmentation, (4, n), on the CPU.

        The first row holds the positions in random order, the others what `FlipCrop` draws for each batch.

        Args:
            batch_size: of the batches of the epoch.
            order, augment: CPU generators, so that the draws are the same on every device.
            rows: (n,) on the CPU, the positions to use; all by default.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        drawn = [rows[torch.randperm(len(rows), generator=order)][None]]
        if self.augment is not None:
            drawn.append(self.augment.draw(batch_sizes(len(rows), batch_size), augment))
        return torch.cat(drawn)

    def cut(self, draws: Tensor, batch_size: int) -> list[Tensor]:
        """Return an epoch's draws (..., n) batch by batch, on the device: one copy for the whole epoch."""
        return list(to_device(draws, self.labels.device).split(batch_sizes(draws.shape[-1], batch_size), -1))

    def shuffled(self, batch_size: int, order: torch.Generator, augment: torch.Generator) -> list[Tensor]:
        """Return the draws of an epoch in random order, batch by batch, for `training_batch`."""
        return self.cut(self.draw(batch_size, order, augment), batch_size)

    def training_batch(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs (..., c, h, w) and labels (...) by their draws (1 or 4, ...); see `draw`."""
        shape, index = draws.shape[1:], draws[0].flatten()
        inputs = self.prepare(self.inputs[index], draws[1:].flatten(1))
        return inputs.unflatten(0, shape), self.labels[index].unflatten(0, shape)

    def batches(self, batch_size: int = 1000, query: Query = QUERIES[0]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the examples in order, under one view and without augmentation, as (inputs, labels) batches."""
        for inputs, labels in zip(self.inputs.split(batch_size), self.labels.split(batch_size), strict=True):
            yield self.prepare(query(inputs)), labels


def examples_of(pool: Pool, dataset: Dataset, device: torch.device, *, channels_last: bool) -> Examples:
    """Return the whole pool as examples on the device, uint8; `subset` selects rows."""
    images = torch.from_numpy(pool.images).permute(0, 3, 1, 2).contiguous().to(device)
    channels = pool.images.shape[-1]

    def per_image(statistic: NDArray[np.float32]) -> Tensor:
        whole = statistic if statistic.ndim == 3 else statistic.reshape(1, 1, channels)
        return torch.from_numpy(whole).permute(2, 0, 1).contiguous().to(device)

    augment = FlipCrop(dataset.crop) if dataset.augment == "flip_crop" else None
    labels = torch.from_numpy(pool.labels).to(device)
    return Examples(images, labels, Normalise(per_image(pool.mean), per_image(pool.std)), augment, channels_last)
