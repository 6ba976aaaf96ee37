"""Tiny ImageNet."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.pictures import Source, bytes_in_memory, digest_of, kept
from advunlearn.data.published import Published
from advunlearn.options import UserError, option

if TYPE_CHECKING:
    from PIL.Image import Image

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"


@dataclass
class TinyImagenet(Published):
    """Tiny ImageNet (Le and Yang 2015): 100,000 training and 10,000 test images of 64x64 pixels in 200 classes.

    The archive is verified by its published MD5. The test part is the validation set, as the labels of the test set
    were never published. Classes are numbered in the order of their WordNet identifiers. The images are decoded once
    and stay on disk.

    Attributes:
        path: a folder that already holds `tiny-imagenet-200.zip`.

    References:
        [le2015] Y. Le and X. Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS 231N 2015.
            https://cs231n.stanford.edu/reports/2015/pdfs/yle_project.pdf
    """

    name: ClassVar[str] = "tiny_imagenet"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {ARCHIVE: (f"http://cs231n.stanford.edu/{ARCHIVE}",)}
    digests: ClassVar[Mapping[str, str]] = {ARCHIVE: "md5:90528d7ca1a48142e341f4ef8d21d0de"}
    rows: ClassVar[tuple[int, int]] = (100_000, 10_000)
    fetched_bytes: ClassVar[int] = 248_100_043

    augment: str = option("flip_crop", choices=("none", "flip_crop"))

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        self.check_path()
        train, test = self.rows
        memory = bytes_in_memory(train + test, (64, 64, 3))
        return DatasetInfo(train, test, tuple(range(200)), (3, 64, 64), example_bytes=memory)

    def load(self) -> Pool:
        """Return all images; they are downloaded if they are not in the cache; see `Dataset.load`.

        Raises:
            UserError: in one line, if an image cannot be read, or the archive holds other images than it should.
        """
        with zipfile.ZipFile(io.BytesIO(self.arrays()[ARCHIVE].tobytes())) as archive:
            train, test = _training(archive), _validation(archive)
            names, classes = zip(*train, *test, strict=True)
            numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
            if (len(train), len(test)) != self.rows or len(numbers) != len(self.info().classes):
                raise UserError(
                    f"{self.name}: the archive holds {len(train):,} and {len(test):,} images in {len(numbers)} classes"
                )
            labels = np.array([numbers[name] for name in classes], dtype=np.int64)
            found = kept(self._source(archive, names))
        return found.pool(labels, len(train), len(numbers))

    def _source(self, archive: zipfile.ZipFile, names: Sequence[str]) -> Source:
        from PIL import Image

        def read(row: int) -> Image.Image:
            with archive.open(names[row]) as file, Image.open(file) as picture:
                return picture.convert("RGB")

        state = self.digests[ARCHIVE]
        return Source(f"{self.name}-{digest_of(state)}", state, f"dataset={self.name}", names, read)


def _training(archive: zipfile.ZipFile) -> list[tuple[str, str]]:
    """Return the name and the class of each training image, sorted: `train/CLASS/images/NAME.JPEG`."""
    parts = [name.split("/") for name in sorted(archive.namelist()) if name.endswith(".JPEG")]
    return [("/".join(part), part[2]) for part in parts if part[1] == "train"]


def _validation(archive: zipfile.ZipFile) -> list[tuple[str, str]]:
    """Return the name and the class of each validation image, in the order of the file of annotations."""
    lines = archive.read(f"{ROOT}/val/val_annotations.txt").decode().splitlines()
    return [(f"{ROOT}/val/images/{name}", label) for name, label, *_ in map(str.split, lines)]
