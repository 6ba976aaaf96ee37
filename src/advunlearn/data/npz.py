"""Images of the user, from one npz file."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.options import ConfigError, UserError, option
from advunlearn.runtime.resources import parse_size
from advunlearn.storage.files import UnreadableFile, open_regular

MOST_CLASSES = 10_000
CHUNK = 1 << 20  # bytes of labels that are read at once


@dataclass
class Npz(Dataset):
    """Your own arrays: `images` (n, h, w) or (n, h, w, c) uint8 and `labels` (n) from 0.

    The file may also hold `test_images` and `test_labels`. Without a test part, held-out examples come from `images`.

    Attributes:
        path: of the npz file.
        max_size: the most that its arrays may take, such as 2GB; a small file can unpack to any size.

    References:
        No publication.
    """

    path: str | None = None
    max_size: str = option("2GB")

    def conflicts(self) -> list[str]:
        """Refuse a `max_size` that is no size; see `Component.conflicts`."""
        try:
            parse_size(self.max_size)
        except (ValueError, OverflowError):
            return [*super().conflicts(), f"max_size must be a size such as 2GB or 500MB, got {self.max_size}"]
        return super().conflicts()

    def info(self) -> DatasetInfo:
        """Return the sizes, reading the arrays' headers and the labels only; see `Dataset.info`."""
        if self.path is None:
            raise UserError("path must name an npz file with images and labels (try dataset.path=mine.npz)")
        try:
            state = self._file.stat()
            return _info(self._file, self.max_size, (state.st_mtime_ns, state.st_size))
        except UnreadableFile as error:
            raise UserError(f"path={self.path} cannot be read: {error.reason}") from error
        except OSError as error:
            raise UserError(f"path={self.path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UserError(f"path={self.path}: {error}") from error

    def load(self) -> Pool:
        """Return all images; see `Dataset.load`.

        Raises:
            ConfigError: in one line, if the file cannot be read.
        """
        try:
            info = self.info()
            parts = ["images", "test_images"] if info.test else ["images"]
            with _one_line(f"path={self.path}"), open_regular(self._file) as file:
                stored = np.load(file, allow_pickle=False)
                images = np.concatenate([stored[name] for name in parts])
                labels = np.concatenate([stored[name.replace("images", "labels")] for name in parts])
        except UserError as error:
            raise ConfigError([f"dataset.{error}"]) from error
        images = images[..., None] if images.ndim == 3 else images
        return Pool(images, labels.astype(np.int64), info.train, len(info.classes))

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own file: dataset.path=mine.npz"

    @property
    def _file(self) -> Path:
        return Path(str(self.path)).expanduser()


@dataclass(frozen=True)
class _Header:
    """What is known of an array before it is read: its type, and where it begins and ends in its part of the file."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.kind} {self.shape}"


@lru_cache(100)  # the runs of a sweep read the same file
def _info(path: Path, max_size: str, state: tuple[int, int]) -> DatasetInfo:
    """Return the sizes that a file has; `state` is a time and a size that change with the file.

    Raises:
        UserError: in one line without the path, if it is not a file of images and labels.
    """
    with (
        open_regular(path) as file,
        _one_line(),
        zipfile.ZipFile(file) as archive,
    ):
        headers = {name.removesuffix(".npy"): _header(archive, name) for name in _names(archive)}
        parts = ["", "test_"] if {"test_images", "test_labels"} & headers.keys() else [""]
        for part in parts:
            _check_part(headers, part)
        _check_size({name: headers[f"{part}{name}"] for part in parts for name in ("images", "labels")}, max_size)
        largest = _largest_label(archive, "labels", headers["labels"])
        if len(parts) > 1 and _largest_label(archive, "test_labels", headers["test_labels"]) > largest:
            raise UserError(f"test_labels must occur in labels, which end at {largest}")
    if len(parts) > 1 and headers["test_images"].shape[1:] != headers["images"].shape[1:]:
        raise UserError("test_images must have the size of images")
    height, width, *channels = headers["images"].shape[1:]
    test_rows = headers["test_labels"].shape[0] if len(parts) > 1 else 0
    shape = (channels[0] if channels else 1, height, width)
    return DatasetInfo(headers["labels"].shape[0], test_rows, tuple(range(largest + 1)), shape)


@contextlib.contextmanager
def _one_line(where: str = "") -> Iterator[None]:
    """Raise a UserError in one line, `WHERE: damaged or not an npz file (reason)`, for what bad bytes raise."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and numpy raise errors of a dozen families for bad bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: damaged or not an npz file ({reason})".removeprefix(": ")) from error


def _names(archive: zipfile.ZipFile) -> Iterator[str]:
    return (name for name in archive.namelist() if name.endswith(".npy"))


def _header(archive: zipfile.ZipFile, name: str) -> _Header:
    about = archive.getinfo(name)
    if about.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{name} is compressed as numpy does not compress (try numpy.savez_compressed)")
    with archive.open(about) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
        return _Header(shape, kind, file.tell(), about.file_size)


def _check_part(headers: dict[str, _Header], prefix: str) -> None:
    for name in (f"{prefix}images", f"{prefix}labels"):
        if name not in headers:
            raise UserError(f"the array {name} is missing; it holds {', '.join(sorted(headers)) or 'nothing'}")
    images, labels = headers[f"{prefix}images"], headers[f"{prefix}labels"]
    if images.kind != np.uint8 or len(images.shape) not in (3, 4) or 0 in images.shape:
        raise UserError(f"{prefix}images must be uint8 (n, h, w) or (n, h, w, c), got {images}")
    if labels.kind.kind not in "iu" or labels.shape != images.shape[:1]:
        raise UserError(f"{prefix}labels must be whole numbers {images.shape[:1]}, got {labels}")


def _check_size(headers: dict[str, _Header], max_size: str) -> None:
    """Raise for arrays that are larger than allowed, or whose size differs from that in their header."""
    for name, header in headers.items():
        if math.prod(header.shape) * header.kind.itemsize != header.end - header.start:
            raise UserError(f"damaged: {name} has {header.end - header.start:,} bytes for {header}")
    size = sum(header.end for header in headers.values())
    if size > parse_size(max_size):
        raise UserError(
            f"it unpacks to {size / 1e9:.2f} GB, more than max_size={max_size} "
            f"(try dataset.max_size={math.ceil(size / 1e9)}GB)"
        )


def _largest_label(archive: zipfile.ZipFile, name: str, header: _Header) -> int:
    """Return the largest label, reading a piece at a time."""
    extremes: list[int] = []
    with archive.open(f"{name}.npy") as file:
        file.read(header.start)
        while piece := file.read(CHUNK):
            labels: NDArray[Any] = np.frombuffer(piece, header.kind)
            extremes += [int(labels.min()), int(labels.max())]
    smallest, largest = min(extremes), max(extremes)
    if smallest < 0 or largest >= MOST_CLASSES:
        raise UserError(f"{name} must lie in 0..{MOST_CLASSES - 1}, got {smallest}..{largest}")
    return largest
