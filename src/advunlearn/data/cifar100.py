"""CIFAR-100."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.published import Part, Published
from advunlearn.options import option

ARCHIVE = "cifar-100-python.tar.gz"
LABELS = {"fine": 100, "coarse": 20}
ARRAYS = {  # all that the pickles of numpy arrays need, of any version of numpy
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    ("_codecs", "encode"),
}


@dataclass
class Cifar100(Published):
    """CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32x32 pixels.

    Each image has one of 100 fine labels, such as `maple tree`, and one of 20 coarse labels, such as `trees`. The
    archive is verified by its published MD5. It holds pickles, of which only arrays, lists and texts are read.

    Attributes:
        labels: `fine` for the 100 classes, or `coarse` for the 20.
        path: a folder that already holds `cifar-100-python.tar.gz`.

    References:
        [krizhevsky2009] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report,
            University of Toronto 2009. https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
    """

    name: ClassVar[str] = "cifar100"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {ARCHIVE: (f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",)}
    digests: ClassVar[Mapping[str, str]] = {ARCHIVE: "md5:eb9058c3a382ffc7106e4002c42a8d85"}
    rows: ClassVar[tuple[int, int]] = (50_000, 10_000)
    fetched_bytes: ClassVar[int] = 169_001_437

    augment: str = option("flip_crop", choices=("none", "flip_crop"))
    labels: str = option("fine", choices=tuple(LABELS))

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        self.check_path()
        train, test = self.rows
        return DatasetInfo(train=train, test=test, classes=tuple(range(LABELS[self.labels])), shape=(3, 32, 32))

    def load(self) -> Pool:
        """Return all images; they are downloaded if they are not in the cache; see `Dataset.load`."""
        archive = io.BytesIO(self.arrays()[ARCHIVE].tobytes())
        with tarfile.open(fileobj=archive) as files:
            return self.pool(*(self._part(files, name) for name in ("train", "test")))

    def _part(self, files: tarfile.TarFile, name: str) -> Part:
        file: Any = files.extractfile(f"cifar-100-python/{name}")
        found = ArrayUnpickler(file, encoding="latin1").load()
        images: NDArray[np.uint8] = found["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return images, np.array(found[f"{self.labels}_labels"])


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler of numpy arrays and plain values: nothing else is imported, so that no file can run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what numpy needs for its arrays.

        Raises:
            UnpicklingError: for anything else.
        """
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module, name)
