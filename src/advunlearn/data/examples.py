"""Labelled examples for one device, and batches of them without loader workers."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from advunlearn.data.dataset import Dataset, Pool, Transform
from advunlearn.data.inputs import (
    Batch,
    Held,
    Shape,
    batch_of,
    held,
    joined,
    mapped,
    pieces,
    shape_of,
    taken,
)
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.devices import to_device


@dataclass(frozen=True)
class Normalise:
    """Turn inputs (n, ...) into floats of mean 0 and deviation 1.

    Attributes:
        mean, std: broadcast to one example.
        replace_missing: replace NaN by the mean, which is 0 afterwards.
    """

    mean: Tensor
    std: Tensor
    replace_missing: bool = False

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the normalised inputs, float32."""
        normalised = inputs.to(torch.float32).sub(self.mean).div_(self.std)
        return normalised.nan_to_num(nan=0.0) if self.replace_missing else normalised

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of both statistics."""
        both = b"".join(each.cpu().numpy().tobytes() for each in (self.mean, self.std))
        return hashlib.sha256(both).hexdigest()


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
        windows = F.pad(images, (self.crop,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        shifted = windows[torch.arange(count, device=images.device), :, draws[0], draws[1]]
        flipped = torch.where(draws[2, :, None, None, None] > 0, shifted.flip(-1), shifted)
        # This layout suits what follows, and a copy of bytes is cheaper than one of the floats of `Normalise`.
        return flipped.contiguous(memory_format=torch.channels_last)


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
    """Inputs (n, ...) and labels (n,) of n examples, for one device; batches are prepared as the network takes them.

    Attributes:
        inputs: one tensor, several by name, or on disk; images are (n, c, h, w).
        labels: (n,).
        images: whether the inputs are images, which can be seen from several views.
        normalise: of one tensor of inputs; None leaves them as they are.
        augment: of images in training; None leaves them as they are.
        transform: the user's own preprocessing, of every batch after that.
        channels_last: memory format of images.
    """

    inputs: Held
    labels: Tensor
    images: bool = False
    normalise: Normalise | None = None
    augment: FlipCrop | None = None
    transform: Transform | None = None
    channels_last: bool = False

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def subset(self, index: Tensor | NDArray[np.int64]) -> Examples:
        """Return the examples at these positions, in this order."""
        where = to_device(torch.as_tensor(index), self.labels.device)
        return replace(self, inputs=taken(self.inputs, where), labels=self.labels[where])

    def followed_by(self, other: Examples) -> Examples:
        """Return these examples followed by those of `other`, which must be prepared in the same way."""
        return replace(self, inputs=joined(self.inputs, other.inputs), labels=torch.cat([self.labels, other.labels]))

    def prepare(self, inputs: Batch, draws: Tensor | None = None) -> Batch:
        """Return raw inputs as the network takes them, augmented if draws are given; see `FlipCrop`."""
        if isinstance(inputs, Tensor) and draws is not None and self.augment is not None:
            inputs = self.augment(inputs, draws)
        if isinstance(inputs, Tensor) and self.normalise is not None:
            inputs = self.normalise(inputs)
        if self.transform is not None:
            inputs = self.transform(inputs)
        if isinstance(inputs, Tensor) and self.images and self.channels_last and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def prepared(self, first: int | None = None) -> Batch:
        """Return the inputs of the first examples, of all by default, as the network takes them."""
        count = len(self) if first is None else min(first, len(self))
        return self.prepare(batch_of(self.inputs, torch.arange(count, device=self.labels.device)))

    @cached_property
    def shape(self) -> Shape:
        """Return the shape of one example's inputs as the network takes them."""
        return shape_of(self.prepared(1))

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
        drawn = rows[torch.randperm(len(rows), generator=order)][None]
        if self.augment is None:
            return drawn
        return torch.cat([drawn, self.augment.draw(batch_sizes(len(rows), batch_size), augment)])

    def cut(self, draws: Tensor, batch_size: int) -> list[Tensor]:
        """Return an epoch's draws (..., n) batch by batch, on the device: one copy for the whole epoch."""
        return list(to_device(draws, self.labels.device).split(batch_sizes(draws.shape[-1], batch_size), -1))

    def shuffled(self, batch_size: int, order: torch.Generator, augment: torch.Generator) -> list[Tensor]:
        """Return the draws of an epoch in random order, batch by batch, for `training_batch`."""
        return self.cut(self.draw(batch_size, order, augment), batch_size)

    def training_batch(self, draws: Tensor) -> tuple[Batch, Tensor]:
        """Return inputs (..., c, h, w) and labels (...) by their draws (1 or 4, ...); see `draw`."""
        shape, index = draws.shape[1:], draws[0].flatten()
        inputs = self.prepare(batch_of(self.inputs, index), draws[1:].flatten(1))
        return mapped(lambda each: each.unflatten(0, shape), inputs), self.labels[index].unflatten(0, shape)

    def batches(self, batch_size: int = 1000, query: Query = QUERIES[0]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield the examples in order, under one view and without augmentation, as (inputs, labels) batches."""
        for inputs, labels in zip(pieces(self.inputs, batch_size), self.labels.split(batch_size), strict=True):
            yield self.prepare(query(inputs) if isinstance(inputs, Tensor) and self.images else inputs), labels


def examples_of(pool: Pool, dataset: Dataset, train: Rows, device: torch.device, *, channels_last: bool) -> Examples:
    """Return the whole pool as examples for the device; `subset` selects rows.

    Args:
        pool: of the dataset.
        dataset: whose options say how inputs are prepared.
        train: rows that the original is trained on, from which the statistics of images are computed.
        device: to compute on.
        channels_last: memory format of images.

    Raises:
        UserError: in one line, if the options do not fit the inputs.
    """
    problems = dataset.problems(pool.info)
    if problems:
        raise UserError(*(f"dataset.{problem}" for problem in problems))
    statistics = dataset.statistics(pool, train)
    normalise = None
    if statistics is not None:
        mean, std = (_per_example(each, pool.images).to(device) for each in statistics)
        normalise = Normalise(mean, std, dataset.replaces_missing())
    augment = FlipCrop(dataset.crop) if dataset.augment == "flip_crop" else None
    inputs = held(pool.inputs, device, images=pool.images, room=_room(device))
    labels = torch.from_numpy(pool.labels).to(device)
    transform = dataset.imported_transform()
    return Examples(inputs, labels, pool.images, normalise, augment, transform, channels_last)


def _per_example(statistic: NDArray[np.float32], images: bool) -> Tensor:
    """Return a statistic in a shape that broadcasts to one example; an image is (c, h, w) here."""
    if not images:
        return torch.from_numpy(statistic)
    whole = statistic if statistic.ndim == 3 else statistic.reshape(1, 1, -1)
    return torch.from_numpy(whole).permute(2, 0, 1).contiguous()


def _room(device: torch.device) -> float:
    """Return the bytes on the device that inputs may take: half of those that are free."""
    return torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else math.inf
