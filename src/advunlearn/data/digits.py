"""scikit-learn's digits, which are included in it, so that the default run needs no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.options import option
from advunlearn.runtime.arrays import Rows

_SMALLEST_DEVIATION = 0.25  # of pixels 0..16; pixels at the border are almost always 0 and would otherwise be scaled up


@dataclass
class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels in 16 levels of grey, standardised per pixel over all of them.

    The default training set is small: only then a network memorises enough for an attack to detect.

    References:
        [alpaydin1998] E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
            Repository 1998. https://doi.org/10.24432/C50P49 (its test part)
    """

    train_size: int | None = option(250, at_least=2)

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        return DatasetInfo(train=1797, test=0, classes=tuple(range(10)), shape=(1, 8, 8))

    def load(self) -> Pool:
        """Return all digits; any of them may be trained on."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = digits.images.astype(np.uint8)[..., None]
        return Pool(images, digits.target.astype(np.int64), train_rows=len(images), classes=10)

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return the statistics of each pixel, constants of the dataset; see `Dataset.statistics`."""
        if self.mean is not None or isinstance(pool.inputs, dict):
            return super().statistics(pool, rows)
        deviation = np.maximum(pool.inputs.std(axis=0), _SMALLEST_DEVIATION)
        return pool.inputs.mean(axis=0).astype(np.float32), deviation.astype(np.float32)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "embedded in scikit-learn"
