"""Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from advunlearn.data.fetch import Arrays
from advunlearn.data.idx import FILES, Idx

MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist


@dataclass
class FashionMnist(Idx):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images of clothes, 28x28 pixels, 10 classes.

    The images come from the publisher's server, or else from Debian's package `dataset-fashion-mnist` if it is
    installed. They are verified by the SHA-256 of the decoded arrays.

    Attributes:
        path: a folder that already holds the four files, with or without `.gz`.

    References:
        [xiao2017] H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
            Learning Algorithms", 2017. https://arxiv.org/abs/1708.07747
    """

    name: ClassVar[str] = "fashion_mnist"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {name: (f"{MIRROR}/{name}",) for name in FILES.values()}
    digests: ClassVar[Mapping[str, str]] = {
        "train_images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train_labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "test_images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "test_labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    }

    def other_sources(self) -> list[tuple[str, Callable[[], Arrays]]]:
        """Return Debian's package; see `Published.other_sources`."""
        return [("dataset-fashion-mnist of Debian", partial(self.from_folder, DEBIAN))]
