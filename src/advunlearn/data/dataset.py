"""The interface of datasets: one pool of labelled inputs, and numbers that are known before it is loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.inputs import Arrays, Shape, mapped, named, shape_in_words
from advunlearn.options import Component, imported, option, source_digest
from advunlearn.runtime.arrays import Rows


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is loaded.

    Attributes:
        train: number of rows for training.
        test: number of rows of its own test part, 0 if it has none.
        classes: all classes that occur.
        shape: of one example's inputs; (channels, height, width) of an image; by name for several inputs.
        images: whether the inputs are images.
        whole_numbers: whether all inputs are whole numbers that are not images, such as tokens.
        example_bytes: memory that an example takes, 0 if it stays on disk; None: one byte per number.
        names: of the rows, if rows have names, such as the paths of image files.
    """

    train: int
    test: int
    classes: tuple[int, ...]
    shape: Shape
    images: bool = True
    whole_numbers: bool = False
    example_bytes: int | None = None
    names: Sequence[str] = ()

    @property
    def image(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of an image."""
        assert self.images
        assert isinstance(self.shape, tuple)
        channels, height, width = self.shape
        return channels, height, width

    @property
    def examples_in_words(self) -> str:
        """Return what the examples are, such as `images of 28x28x1` or `examples of 30`."""
        if not self.images:
            return f"examples of {shape_in_words(self.shape)}"
        channels, height, width = self.image
        return f"images of {shape_in_words((height, width, channels))}"

    @property
    def memory(self) -> int:
        """Return the bytes that all examples take in memory."""
        numbers = sum(map(math.prod, named(self.shape).values()))
        each = numbers if self.example_bytes is None else self.example_bytes
        return (self.train + self.test) * each


@dataclass(frozen=True)
class Pool:
    """All examples of a dataset; row numbers in this pool identify the examples throughout a run.

    Attributes:
        inputs: (n, ...) of any type, or several arrays by name; images are (n, height, width, channels). A
            `numpy.memmap` stays on disk.
        labels: int64, (n,), in 0..classes-1.
        train_rows: rows below this number are for training, the others are the dataset's own test part.
        classes: number of classes.
        images: whether the inputs are images.
        digest: SHA-256 of the inputs; None if it has not been computed.
        moments: int64, (n, 2, channels), the sum and the sum of squares of each image's pixels; None if not computed.
        names: see `DatasetInfo`.
        clean_inputs: (m, ...), the images of the forget set as they were, if a forget scenario has changed them.
        true_labels: int64, (n,), if a forget scenario has changed some of the labels; else None.
    """

    inputs: Arrays
    labels: NDArray[np.int64]
    train_rows: int
    classes: int
    images: bool = True
    digest: str | None = None
    moments: NDArray[np.int64] | None = None
    names: Sequence[str] = ()
    true_labels: NDArray[np.int64] | None = None
    clean_inputs: NDArray[Any] | None = None

    @property
    def info(self) -> DatasetInfo:
        """Return the sizes of these examples."""
        shape = mapped(lambda array: array.shape[1:], self.inputs)
        if self.images and isinstance(shape, tuple):
            shape = (shape[-1], *shape[:-1])
        test_rows, classes = len(self.labels) - self.train_rows, tuple(range(self.classes))
        return DatasetInfo(self.train_rows, test_rows, classes, shape, self.images, names=self.names)

    @cached_property
    def checksum(self) -> str:
        """Return the SHA-256 of inputs and labels: the dataset's key in the store."""
        about = {name: (array.shape, str(array.dtype)) for name, array in named(self.inputs).items()}
        digest = hashlib.sha256(repr((about, self.train_rows, self.images, self.digest)).encode())
        labels = [each for each in (self.labels, self.true_labels) if each is not None]
        for array in (*(named(self.inputs).values() if self.digest is None else ()), *labels):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


Transform = Callable[[Any], Any]
"""The user's own preprocessing of a batch: normalised inputs (n, ...) to the inputs of the network."""


@dataclass
class Dataset(Component):
    """Base class of datasets.

    Attributes:
        train_size: examples to train on, a subset stratified by class; null takes all.
        audit_fraction, selection_fraction: parts of the held-out examples for the game's auditor and for
            choosing hyperparameters; the rest is the test set.
        augment: `flip_crop` mirrors images at random and shifts them by up to `crop` pixels, `none` leaves them as they
            are.
        mean, std: mean and standard deviation by which inputs are normalised, one number for each channel of an image
            or for each feature, or one for all; for uint8 images, of pixels scaled to 0..1. By default, images are
            normalised by the statistics of the examples that the original is trained on, and other inputs are not.
        transform: import path of a function that gets each batch (n, ...) after normalisation, and returns the inputs
            of the network.
    """

    group: ClassVar[str] = "dataset"

    digests: ClassVar[Mapping[str, str]] = {}
    """Of each array that is fetched once and kept in the cache under the dataset's name; empty for other datasets.

    See `fetch.has_digest`.
    """

    fetched_bytes: ClassVar[int] = 0
    """The size of those arrays that are files as they were published, about."""

    train_size: int | None = option(None, at_least=2)
    audit_fraction: float = option(0.25, above=0, below=1)
    selection_fraction: float = option(0.25, above=0, below=1)
    augment: str = option("none", choices=("none", "flip_crop"))
    crop: int = option(4, at_least=0)
    mean: list[float] | None = None
    std: list[float] | None = None
    transform: str | None = None

    def conflicts(self) -> list[str]:
        """Return a line for fractions that leave no test set, and for `mean` and `std` that do not fit together."""
        problems = []
        if self.audit_fraction + self.selection_fraction >= 1:
            problems.append(
                "audit_fraction and selection_fraction must leave a test set: their sum must be less than 1, "
                f"got {self.audit_fraction:g} + {self.selection_fraction:g}"
            )
        if (self.mean is None) != (self.std is None) or len(self.mean or []) != len(self.std or []):
            problems.append(f"mean and std must have one number per channel each, got {self.mean} and {self.std}")
        elif self.std is not None and min(self.std, default=0.0) <= 0:
            problems.append(f"std must be greater than 0, got {self.std}")
        return problems

    def info(self) -> DatasetInfo:
        """Return the dataset's sizes and classes without loading its inputs.

        Raises:
            ValueError: in one line, if the dataset's files are missing or invalid.
        """
        raise NotImplementedError

    def problems(self, info: DatasetInfo) -> list[str]:
        """Return one line for each option that does not fit the inputs; it begins with the option's name."""
        problems = []
        if self.augment != "none" and not info.images:
            problems.append(f"augment={self.augment} needs images (try dataset.augment=none)")
        if self.mean is None:
            return problems
        if isinstance(info.shape, dict):
            return [*problems, "mean and std need inputs in one array, got several by name"]
        wanted = info.image[0] if info.images else (1, *info.shape)[-1]
        if len(self.mean) not in (1, wanted):
            problems.append(f"mean and std must have 1 or {wanted} numbers, got {len(self.mean)}")
        return problems

    def is_here(self) -> bool:
        """Return whether `load` needs no download."""
        return True

    def load(self) -> Pool:
        """Return the whole dataset; it is downloaded once if necessary."""
        raise NotImplementedError

    @classmethod
    def status(cls) -> str:
        """Return in a few words where its examples are, for `advunlearn data ls`."""
        raise NotImplementedError

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return mean and standard deviation by which inputs are normalised; None if they are not normalised.

        Each is (channels,) or of the shape of one example, on the scale of the inputs.

        Args:
            pool: of the dataset.
            rows: the rows that the original is trained on; other rows must not be used.
        """
        if self.mean is not None and self.std is not None:
            scale = np.float32(255 if pool.images and named(pool.inputs)["inputs"].dtype == np.uint8 else 1)
            return np.array(self.mean, np.float32) * scale, np.array(self.std, np.float32) * scale
        if not pool.images or isinstance(pool.inputs, dict):
            return None
        if pool.moments is not None:
            return statistics_of_moments(pool.moments[rows], math.prod(pool.inputs.shape[1:3]))
        return channel_statistics(pool.inputs, rows)

    def replaces_missing(self) -> bool:
        """Return whether NaN in the inputs is a missing value, which the mean replaces."""
        return False

    def imported_transform(self) -> Transform | None:
        """Return the function that `transform` names; None if it is not given.

        Raises:
            UserError: in one line, if it cannot be imported.
        """
        return None if self.transform is None else imported(self.transform, "transform")

    def identity(self) -> dict[str, object]:
        """Return the options that change a model's inputs: the dataset's part in the store's keys.

        The statistics are no part of it: they follow from the training examples; see `Setup.view`.
        """
        own = self.imported_transform()
        source = {} if own is None else {"transform": [self.transform, source_digest(own)]}
        return {"augment": self.augment, "crop": self.crop if self.augment != "none" else 0, **source}


CHUNK = 64 << 20  # bytes of images whose statistics are computed at once


def channel_statistics(images: NDArray[Any], rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation (c,) of each channel of some rows of images (n, h, w, c).

    A constant channel has deviation 1. Rows are read in chunks, as the images may be on disk.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    size = max(1, CHUNK // (8 * math.prod(images.shape[1:])))
    for start in range(0, len(rows), size):
        scaler.partial_fit(images[rows[start : start + size]].reshape(-1, images.shape[-1]))
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


def statistics_of_moments(moments: NDArray[np.int64], pixels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation (c,) of each channel of images, given the number of pixels of an image.

    A constant channel has deviation 1.
    """
    mean, square = moments.sum(axis=0) / (len(moments) * pixels)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
