"""The interface of datasets: one pool of labelled images, and numbers that are known before it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.options import Component, option


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is loaded.

    Attributes:
        train: number of rows for training.
        test: number of rows of its own test part, 0 if it has none.
        classes: all classes that occur.
        shape: (channels, height, width) of an image.
    """

    train: int
    test: int
    classes: tuple[int, ...]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Pool:
    """All images of a dataset; row numbers in this pool identify the examples throughout a run.

    Attributes:
        images: uint8, (n, height, width, channels).
        labels: int64, (n,), in 0..classes-1.
        train_rows: rows below this number are for training, the others are the dataset's own test part.
        classes: number of classes.
        mean, std: on the images' own scale, fixed before any split; (channels,) for each channel, or (height, width,
            channels) for each pixel.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train_rows: int
    classes: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @cached_property
    def checksum(self) -> str:
        """Return the SHA-256 of images, labels and normalisation: the dataset's key in the store."""
        digest = hashlib.sha256(repr((self.images.shape, self.train_rows)).encode())
        for array in (self.images, self.labels, self.mean, self.std):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass
class Dataset(Component):
    """Base class of datasets.

    Attributes:
        train_size: examples to train on, a subset stratified by class; null takes all.
        audit_fraction, selection_fraction: parts of the held-out examples for the game's auditor and for
            choosing hyperparameters; the rest is the test set.
        augment: `flip_crop` mirrors at random and shifts by up to `crop` pixels, `none` leaves images as they are.
    """

    group: ClassVar[str] = "dataset"

    digests: ClassVar[Mapping[str, str]] = {}
    """SHA-256 of each array that is fetched once and kept in the cache under the dataset's name; empty for others."""

    train_size: int | None = option(None, at_least=2)
    audit_fraction: float = option(0.25, above=0, below=1)
    selection_fraction: float = option(0.25, above=0, below=1)
    augment: str = option("none", choices=("none", "flip_crop"))
    crop: int = option(4, at_least=0)

    def conflicts(self) -> list[str]:
        """Return a line for fractions that leave no test set."""
        if self.audit_fraction + self.selection_fraction < 1:
            return []
        return [
            "audit_fraction and selection_fraction must leave a test set: their sum must be less than 1, "
            f"got {self.audit_fraction:g} + {self.selection_fraction:g}"
        ]

    def info(self) -> DatasetInfo:
        """Return the dataset's sizes and classes without loading its images.

        Raises:
            ValueError: in one line, if the dataset's files are missing or invalid.
        """
        raise NotImplementedError

    def is_here(self) -> bool:
        """Return whether `load` needs no download."""
        return True

    def load(self) -> Pool:
        """Return the whole dataset; it is downloaded once if necessary."""
        raise NotImplementedError

    @classmethod
    def status(cls) -> str:
        """Return in a few words where its images are, for `advunlearn data ls`."""
        raise NotImplementedError

    def identity(self) -> dict[str, object]:
        """Return the options that change a model's inputs: the dataset's part in the store's keys."""
        return {"augment": self.augment, "crop": self.crop if self.augment != "none" else 0}


def channel_statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation (c,) of each channel of (n, h, w, c) images; a constant channel has deviation 1."""
    flat = images.reshape(-1, images.shape[-1])
    mean, std = flat.mean(axis=0, dtype=np.float64), flat.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)
