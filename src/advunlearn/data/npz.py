"""A person's own images, from one npz file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool, channel_statistics
from advunlearn.options import UserError

Shape = tuple[int, ...]

MOST_CLASSES = 10_000


@dataclass
class Npz(Dataset):
    """Your own arrays: `images` (n, h, w) or (n, h, w, c) uint8 and `labels` (n) from 0.

    The file may also hold `test_images` and `test_labels`. Without a test part, held-out examples come from `images`.

    References:
        No publication.
    """

    path: str | None = None

    def info(self) -> DatasetInfo:
        """Return the sizes, reading the arrays' headers and the labels only; see `Dataset.info`."""
        if self.path is None:
            raise UserError("path must name an npz file with images and labels (try dataset.path=mine.npz)")
        try:
            with zipfile.ZipFile(self._file) as archive:
                headers = {
                    name.removesuffix(".npy"): _header(archive, name)
                    for name in archive.namelist()
                    if name.endswith(".npy")
                }
            self._check_part(headers, "")
            labels = self._labels("labels")
            test_rows = 0
            if {"test_images", "test_labels"} & headers.keys():
                self._check_part(headers, "test_")
                test_rows = len(self._labels("test_labels"))
                if self._labels("test_labels").max() > labels.max():
                    raise UserError(f"test_labels must occur in labels, which end at {labels.max()}")
                if headers["test_images"][0][1:] != headers["images"][0][1:]:
                    raise UserError("test_images must have the size of images")
        except OSError as error:
            raise UserError(f"path={self.path} cannot be read: {error.strerror or error}") from error
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"path={self.path} is not an npz file") from error
        except ValueError as error:
            raise UserError(f"path={self.path}: {error}") from error
        height, width, *channels = headers["images"][0][1:]
        shape = (channels[0] if channels else 1, height, width)
        return DatasetInfo(len(labels), test_rows, tuple(range(int(labels.max()) + 1)), shape)

    def load(self) -> Pool:
        """Return all images, normalised channel by channel over all of them; see `Dataset.load`."""
        info = self.info()
        with np.load(self._file, allow_pickle=False) as stored:
            parts = ["images", "test_images"] if info.test else ["images"]
            images = np.concatenate([stored[name] for name in parts])
            labels = np.concatenate([stored[name.replace("images", "labels")] for name in parts])
        images = images[..., None] if images.ndim == 3 else images
        mean, std = channel_statistics(images)
        return Pool(images, labels.astype(np.int64), info.train, len(info.classes), mean, std)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own file: dataset.path=mine.npz"

    @property
    def _file(self) -> Path:
        return Path(str(self.path)).expanduser()

    def _labels(self, name: str) -> NDArray[Any]:
        with np.load(self._file, allow_pickle=False) as stored:
            labels: NDArray[Any] = stored[name]
        if len(labels) == 0:
            raise UserError(f"{name} must hold at least one label")
        if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
            raise UserError(f"{name} must lie in 0..{MOST_CLASSES - 1}, got {labels.min()}..{labels.max()}")
        return labels

    @staticmethod
    def _check_part(headers: dict[str, tuple[Shape, np.dtype[Any]]], prefix: str) -> None:
        for name in (f"{prefix}images", f"{prefix}labels"):
            if name not in headers:
                raise UserError(f"the array {name} is missing; it holds {', '.join(sorted(headers)) or 'nothing'}")
        (shape, kind), (label_shape, label_kind) = headers[f"{prefix}images"], headers[f"{prefix}labels"]
        if kind != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
            raise UserError(f"{prefix}images must be uint8 (n, h, w) or (n, h, w, c), got {kind} {shape}")
        if label_kind.kind not in "iu" or label_shape != shape[:1]:
            raise UserError(f"{prefix}labels must be whole numbers {shape[:1]}, got {label_kind} {label_shape}")


def _header(archive: zipfile.ZipFile, name: str) -> tuple[Shape, np.dtype[Any]]:
    with archive.open(name) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
    return shape, kind
