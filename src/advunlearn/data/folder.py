"""Image files of the user: a folder for each class."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.pictures import Pictures, Source, bytes_in_memory, digest_of, kept, readable
from advunlearn.options import UserError
from advunlearn.storage.files import open_regular, state_of_file

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TEST = ("test", "val")  # names that the folder of a test part may have


@dataclass
class Folder(Pictures):
    """A folder of image files with a subfolder for each class: `ROOT/CLASS/IMAGE.png`.

    With a test part the files are `ROOT/train/CLASS/IMAGE.png` and `ROOT/test/CLASS/IMAGE.png` (or `val`). A class
    folder may hold further folders. Classes are numbered in the order of their names. Rows are numbered in the order of
    the files' paths, the training part first. Hidden files and files that are not images are ignored.

    The images are decoded once, in parallel, and kept in the cache until a file's path, size or time changes.

    Attributes:
        root: the folder.

    References:
        No publication.
    """

    root: str | None = None
    gray: bool = False

    def info(self) -> DatasetInfo:
        """Return the sizes from the names of the files, and from the first image; see `Dataset.info`."""
        tree = self._tree()
        with readable(f"root={self.root}: {tree.paths[0]}"), self._open(tree.paths[0]) as picture:
            shape = self.shape_of(picture)
        return DatasetInfo(
            train=tree.train_rows,
            test=len(tree.paths) - tree.train_rows,
            classes=tuple(range(len(tree.classes))),
            shape=shape,
            example_bytes=bytes_in_memory(len(tree.paths), shape),
            names=tree.paths,
        )

    def load(self) -> Pool:
        """Return all images, decoded if the cache does not hold them; see `Dataset.load`.

        Raises:
            UserError: in one line with the file's name, if an image cannot be read, or has another size.
        """
        tree = self._tree()
        logger.info("%s", tree.in_words)
        folder = f"{self._root.name[:40]}-{digest_of(os.path.realpath(self._root), self.size, self.gray)}"
        option, paths = f"dataset.root={self.root}", tree.paths
        found = kept(Source(folder, tree.state, option, paths, lambda row: self._read(paths[row])))
        return found.pool(np.array(tree.labels, np.int64), tree.train_rows, len(tree.classes), paths)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own image files: dataset.root=FOLDER"

    @property
    def _root(self) -> Path:
        return Path(str(self.root)).expanduser()

    def _tree(self) -> Tree:
        if self.root is None:
            raise UserError("root must name a folder with a folder of images for each class (try dataset.root=photos)")
        try:
            return tree_of(self._root)
        except UserError as error:
            raise UserError(f"root={self.root}: {error}") from error
        except OSError as error:
            raise UserError(f"root={self.root} cannot be read: {error.filename}: {error.strerror}") from error

    @contextlib.contextmanager
    def _open(self, path: str) -> Iterator[Image]:
        from PIL import Image

        with open_regular(self._root / path) as file, Image.open(file) as picture:
            yield picture

    def _read(self, path: str) -> Image:
        with self._open(path) as picture:
            return self.fitted(picture, gray=bool(self.gray))


@dataclass(frozen=True)
class Tree:
    """The image files of a folder.

    Attributes:
        root: the folder.
        paths: of the images, relative to the root, in the order of their rows.
        labels: the class number of each image.
        train_rows: number of images in the training part.
        classes: names of the classes.
        others: number of files that are not images.
    """

    root: Path
    paths: list[str]
    labels: list[int]
    train_rows: int
    classes: list[str]
    others: int

    @property
    def state(self) -> str:
        """Return a text that changes whenever an image does; see `state_of_file`."""
        return "\n".join(f"{path}\0{state_of_file(f'{self.root}/{path}')}" for path in self.paths)

    @property
    def in_words(self) -> str:
        """Return the number of files and the names of the classes in one line."""
        names = ", ".join(f"{number} {name}" for number, name in enumerate(self.classes[:20]))
        more = f", and {len(self.classes) - 20} more" if len(self.classes) > 20 else ""
        others = f"; {self.others:,} files are no images" if self.others else ""
        return f"{self.root}: {len(self.paths):,} images of the classes {names}{more}{others}"


def tree_of(root: Path) -> Tree:
    """Return the image files below a folder; see `Folder`.

    Raises:
        UserError: in one line without the folder's path, if there is no class folder, if a class folder holds no image,
            or if a class of the test part does not occur in the training part.
        OSError: if the folder or a subfolder cannot be read.
    """
    parts = [""]
    if _folders(root / "train", optional=True):
        parts = ["train/", *[f"{name}/" for name in TEST if _folders(root / name, optional=True)][:1]]
    classes = _folders(root / parts[0])
    if not classes:
        raise UserError("must hold a folder of images for each class, and holds no folder")
    rows, train_rows, others = list[tuple[str, int]](), 0, 0
    for part in parts:
        found = list[tuple[str, int]]()
        for name in _folders(root / part):
            if name not in classes:
                raise UserError(f"{part}{name} is a class that {parts[0]} has not")
            files = list(_files(root, f"{part}{name}"))
            images = [path for path in files if path.lower().endswith(SUFFIXES)]
            if not images:
                raise UserError(f"{part}{name} holds no image; remove it or add some ({', '.join(SUFFIXES)})")
            others += len(files) - len(images)
            found += [(path, classes.index(name)) for path in images]
        rows += sorted(found)
        train_rows = train_rows or len(rows)
    return Tree(root, [path for path, _ in rows], [label for _, label in rows], train_rows, classes, others)


def _folders(folder: Path, *, optional: bool = False) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    if optional and not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, folder: str) -> Iterator[str]:
    """Yield the paths of the files below a folder, relative to the root, without hidden ones.

    Links are followed. A folder that several links point to is read once, so a circle of links ends.
    """
    seen = set[str]()
    for top, folders, names in os.walk(root / folder, followlinks=True, onerror=_raise):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(top, root)
        yield from (f"{below}/{name}" for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error
