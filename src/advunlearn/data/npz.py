"""Arrays of the user, from one npz file."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.inputs import Arrays, Shape, in_torch_type, not_finite
from advunlearn.options import ConfigError, UserError, in_one_line, option
from advunlearn.runtime.resources import parse_size
from advunlearn.storage.files import UnreadableFile, open_regular, state_of_file

PREFIX = "inputs."  # of the names of several arrays of inputs
MOST_CLASSES = 10_000
COLORS = (1, 2, 3, 4)  # channels of an image
CHUNK = 1 << 20  # bytes of labels that are read at once


@dataclass
class Npz(Dataset):
    """Arrays of the user: inputs of any kind, and `labels` (n), whole numbers from 0 on.

    The inputs are `images` (n, h, w) or (n, h, w, c), uint8 or floats; or `inputs` (n, ...), numbers of any type; or
    several arrays such as `inputs.ids` and `inputs.mask`, which the network gets as keyword arguments. Arrays with the
    prefix `test_` are the test part. Without a test part, held-out examples come from the training part.

    Attributes:
        path: of the npz file.
        max_size: the most that its arrays may take, such as 2GB; a small file can unpack to any size.

    References:
        No publication.
    """

    path: str | None = None
    max_size: str = option("2GB")

    def conflicts(self) -> list[str]:
        """Refuse a `max_size` that is not a size; see `Component.conflicts`."""
        try:
            parse_size(self.max_size)
        except (ValueError, OverflowError):
            return [*super().conflicts(), f"max_size must be a size such as 2GB or 500MB, got {self.max_size}"]
        return super().conflicts()

    def info(self) -> DatasetInfo:
        """Return the sizes, reading the arrays' headers and the labels only; see `Dataset.info`."""
        if self.path is None:
            raise UserError("path must name an npz file with inputs and labels (try dataset.path=mine.npz)")
        try:
            return _info(self._file, self.max_size, state_of_file(self._file))
        except UnreadableFile as error:
            raise UserError(f"path={self.path} cannot be read: {error.reason}") from error
        except ValueError as error:
            raise UserError(f"path={self.path}: {error}") from error

    def load(self) -> Pool:
        """Return all inputs; see `Dataset.load`.

        Raises:
            ConfigError: in one line, if the file cannot be read, or holds a number that is not finite.
        """
        try:
            info = self.info()
            parts = ["", "test_"] if info.test else [""]
            with _one_line(f"path={self.path}"), open_regular(self._file) as file:
                stored = np.load(file, allow_pickle=False)
                names = _input_names(stored.files)
                arrays = {
                    name: _joined([stored[f"{part}{name}"] for part in parts], f"path={self.path}: {name}")
                    for name in names
                }
                labels = np.concatenate([stored[f"{part}labels"] for part in parts])
        except UserError as error:
            raise ConfigError([f"dataset.{error}"]) from error
        if info.images or names == ["inputs"]:
            (whole,) = arrays.values()
            inputs: Arrays = whole[..., None] if whole.ndim == (3 if info.images else 1) else whole
        else:
            inputs = {name.removeprefix(PREFIX): array for name, array in arrays.items()}
        return Pool(inputs, labels.astype(np.int64), info.train, len(info.classes), info.images)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own file: dataset.path=mine.npz"

    @property
    def _file(self) -> Path:
        return Path(str(self.path)).expanduser()


@dataclass(frozen=True)
class _Header:
    """The header of an array in the file: shape and type, and the positions of the first and last byte of its data."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.kind} {self.shape}"


@lru_cache(100)  # the runs of a sweep read the same file
def _info(path: Path, max_size: str, state: str) -> DatasetInfo:
    """Return the sizes that a file has; `state` changes with the file.

    Raises:
        UserError: in one line without the path, if it is not a file of inputs and labels.
    """
    with open_regular(path) as file, _one_line(), zipfile.ZipFile(file) as archive:
        headers = {name.removesuffix(".npy"): _header(archive, name) for name in _names(archive)}
        names = [*_input_names(headers), "labels"]
        parts = ["", "test_"] if any(f"test_{name}" in headers for name in names) else [""]
        for part in parts:
            _check_part(headers, part, names)
        _check_size({f"{part}{name}": headers[f"{part}{name}"] for part in parts for name in names}, max_size)
        largest = _largest_label(archive, "labels", headers["labels"])
        if len(parts) > 1 and _largest_label(archive, "test_labels", headers["test_labels"]) > largest:
            raise UserError(f"test_labels must occur in labels, which end at {largest}")
    for name in names if len(parts) > 1 else ():
        if headers[f"test_{name}"].shape[1:] != headers[name].shape[1:]:
            raise UserError(f"test_{name} must have the size of {name}")
    test_rows = headers["test_labels"].shape[0] if len(parts) > 1 else 0
    about = [headers[name] for name in names[:-1]]
    return DatasetInfo(
        train=headers["labels"].shape[0],
        test=test_rows,
        classes=tuple(range(largest + 1)),
        shape=_shape({name.removeprefix(PREFIX): headers[name].shape[1:] for name in names[:-1]}),
        images=names[0] == "images",
        whole_numbers=names[0] != "images" and all(header.kind.kind in "iub" for header in about),
        example_bytes=sum(math.prod(header.shape[1:]) * header.kind.itemsize for header in about),
    )


def _input_names(names: Iterable[str]) -> list[str]:
    """Return the names of the arrays of inputs among those of a file.

    Raises:
        UserError: if the file holds no inputs, or two kinds of inputs.
    """
    own = [name for name in names if name in ("images", "inputs") or name.startswith(PREFIX)]
    if not own:
        raise UserError(f"an array images or inputs is missing; it holds {', '.join(sorted(names)) or 'nothing'}")
    if len(own) > 1 and {"images", "inputs"} & set(own):
        raise UserError(f"it must hold either images, or inputs, or arrays such as inputs.ids, got {', '.join(own)}")
    return own


def _shape(shapes: dict[str, tuple[int, ...]]) -> Shape:
    """Return the shape of an example: (c, h, w) for an image, and (1,) for a single number."""
    if "images" in shapes:
        height, width, *channels = shapes["images"]
        return (channels[0] if channels else 1, height, width)
    return shapes["inputs"] or (1,) if "inputs" in shapes else shapes


def _joined(parts: list[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the array of the training part, followed by that of the test part; see `in_torch_type`.

    Raises:
        UserError: in one line, if a number is not finite.
    """
    array = in_torch_type(np.concatenate(parts))
    bad = not_finite(array)
    if bad.any():
        rows = f"{bad.sum()} rows, the first of them row {bad.argmax()}"
        raise UserError(f"{name} must be finite: NaN or infinite numbers are in {rows}")
    return array


@contextlib.contextmanager
def _one_line(where: str = "") -> Iterator[None]:
    """Raise a UserError in one line, `WHERE: damaged or not an npz file (reason)`, for any error of invalid bytes."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and numpy raise errors of many types for invalid bytes
        reason = in_one_line(error)
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


def _check_part(headers: dict[str, _Header], part: str, names: list[str]) -> None:
    for name in (f"{part}{name}" for name in names):
        if name not in headers:
            raise UserError(f"the array {name} is missing; it holds {', '.join(sorted(headers)) or 'nothing'}")
    labels = headers[f"{part}labels"]
    for name in names[:-1]:
        about = headers[f"{part}{name}"]
        if name == "images" and (not _is_image(about) or 0 in about.shape):
            raise UserError(f"{part}images must be uint8 or floats, (n, h, w) or (n, h, w, c), got {about}")
        if name == "images" and len(about.shape) == 4 and about.shape[1] in COLORS and about.shape[3] not in COLORS:
            raise UserError(f"{part}images must be (n, h, w, c), got {about} (try images.transpose(0, 2, 3, 1))")
        if about.kind.kind not in "iufb" or len(about.shape) < 1 or 0 in about.shape:
            raise UserError(f"{part}{name} must be numbers (n, ...), got {about}")
        if about.kind.kind != headers[name].kind.kind:
            raise UserError(f"{part}{name} must be of the type of {name}, {headers[name].kind}, got {about.kind}")
        if labels.kind.kind not in "iu" or labels.shape != about.shape[:1]:
            raise UserError(f"{part}labels must be whole numbers {about.shape[:1]}, got {labels}")


def _is_image(about: _Header) -> bool:
    return (about.kind == np.uint8 or about.kind.kind == "f") and len(about.shape) in (3, 4)


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
