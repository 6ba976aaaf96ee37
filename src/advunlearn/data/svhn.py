"""SVHN: house numbers of Street View."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.published import Part, Published
from advunlearn.options import option

SERVER = "http://ufldl.stanford.edu/housenumbers"
TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"


@dataclass
class Svhn(Published):
    """SVHN (Netzer et al. 2011), cropped digits: 73,257 training and 26,032 test images of 32x32 pixels, 10 classes.

    The files are verified by their published MD5. The class is the digit: files name the digit 0 by 10. The 531,131
    extra training images are not used. Mirroring changes digits, so `augment=flip_crop` is not the default.

    Attributes:
        path: a folder that already holds `train_32x32.mat` and `test_32x32.mat`.

    References:
        [netzer2011] Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, "Reading Digits in Natural Images
            with Unsupervised Feature Learning", NIPS Workshop on Deep Learning and Unsupervised Feature Learning 2011.
            https://research.google/pubs/reading-digits-in-natural-images-with-unsupervised-feature-learning/
    """

    name: ClassVar[str] = "svhn"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {file: (f"{SERVER}/{file}",) for file in (TRAIN, TEST)}
    digests: ClassVar[Mapping[str, str]] = {
        TRAIN: "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        TEST: "md5:eb5a983be6a315427106f1b164d9cef3",
    }
    rows: ClassVar[tuple[int, int]] = (73_257, 26_032)
    fetched_bytes: ClassVar[int] = 182_040_794 + 64_275_384

    augment: str = option("none", choices=("none", "flip_crop"))

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        self.check_path()
        train, test = self.rows
        return DatasetInfo(train=train, test=test, classes=tuple(range(10)), shape=(3, 32, 32))

    def load(self) -> Pool:
        """Return all images; they are downloaded if they are not in the cache; see `Dataset.load`."""
        arrays = self.arrays()
        return self.pool(*(_part(arrays[file].tobytes()) for file in (TRAIN, TEST)))


def _part(content: bytes) -> Part:
    """Return images (n, h, w, c) and digits (n,) of a MATLAB file."""
    from scipy.io import loadmat

    found: Any = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    return found["X"].transpose(3, 0, 1, 2), found["y"].reshape(-1) % 10
