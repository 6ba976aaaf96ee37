"""Forget training images that carry Gaussian noise, which a model that was trained on them has memorized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.random import Random
from advunlearn.options import option
from advunlearn.runtime.arrays import Floats, Rows
from advunlearn.runtime.seeding import numpy_stream

PIXEL = 255.0  # the range of a pixel


@dataclass
class Canaries(Random):
    """Add Gaussian noise to a fraction of the training images, the same of every class, and forget these.

    The original is trained on x + xi, rounded and clipped to whole pixels, where each xi ~ N(0, s^2 I) comes from a
    random stream of its own. A run then tests each model by the angle between xi and the gradient of the loss at x: see
    `stages/canaries.py`. For a model that never saw the noise the statistic is standard normal, so that the test
    needs no other models. Held-out images carry no noise: an attack separates the forget set from them by the noise
    alone, also under the retrained model, and only its distance to the retrained model is meaningful.

    Rounding, clipping and augmentation weaken the test, and do not change its null distribution: that depends on the
    noise that was drawn, not on what the training made of it.

    Attributes:
        fraction: of the training images.
        noise: the standard deviation s of each pixel's noise, as a part of the range of a pixel.

    References:
        [pawelczyk2025] M. Pawelczyk, J. Z. Di, Y. Lu, G. Kamath, A. Sekhari and S. Neel, "Machine Unlearning Fails to
            Remove Data Poisoning Attacks", ICLR 2025. https://arxiv.org/abs/2406.17216
    """

    perturbs: ClassVar[bool] = True

    noise: float = option(0.05, above=0, at_most=1)

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Return a line if the inputs are not images, further to those of `Random`."""
        needed = [] if info.images else ["noise is for images, and these inputs are others (try forget=random)"]
        return [*super().problems(info, train_size), *needed]

    def perturbed(self, images: NDArray[Any], rows: Rows, seed: int) -> NDArray[Any]:
        """Return the images (n, h, w, c) of these rows with their noise; see `Forget.perturbed`."""
        noisy = images.astype(np.float64) + self.noise * PIXEL * standard_noise(rows, images.shape[1:], seed)
        return np.asarray(np.clip(np.rint(noisy), 0, PIXEL).astype(images.dtype))


def standard_noise(rows: Rows, shape: Sequence[int], seed: int) -> Floats:
    """Return the noise of each row of the pool, (n, *shape), of standard deviation 1."""
    return np.stack([numpy_stream(seed, "canary", int(row)).standard_normal(shape) for row in rows])
