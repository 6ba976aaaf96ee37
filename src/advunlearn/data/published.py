"""Datasets that are published as files: fetched once, verified, and kept in the cache."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.fetch import Arrays, Unavailable, cached_size, cached_status, downloaded, fetched
from advunlearn.options import UserError, first_line
from advunlearn.storage.files import UnreadableFile, read_regular

INVALID = (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
Part = tuple[NDArray[Any], NDArray[Any]]
Reader = Callable[[str], NDArray[np.uint8]]


@dataclass
class Published(Dataset):
    """Base class of datasets whose files are fetched once, verified by `digests`, and kept in the cache.

    `digests` are those of the files as they were published, or of the arrays that `decoded` makes of them.

    Attributes:
        path: a folder that already holds the files; then nothing is downloaded.
    """

    name: ClassVar[str]
    """In the cache and in messages."""

    files: ClassVar[Mapping[str, tuple[str, ...]]]
    """The addresses of each file on each server, the preferred one first."""

    rows: ClassVar[tuple[int, int]]
    """The sizes of the training part and of the test part."""

    path: str | None = None

    def decoded(self, files: Arrays) -> Arrays:
        """Return the arrays to verify and to keep, given the bytes of each file: by default the bytes themselves."""
        return files

    def other_sources(self) -> list[tuple[str, Callable[[], Arrays]]]:
        """Return sources other than the addresses, to try after them; see `fetched`."""
        return []

    def arrays(self) -> Arrays:
        """Return the verified arrays, from the cache, the folder `path`, or the first source that has them.

        Raises:
            UserError: in one line that says what to download and where to put it, if none has them.
        """
        urls = " and ".join(addresses[0] for addresses in self.files.values())
        advice = f"download {urls} into a folder and try dataset.path=FOLDER"
        return fetched(self.name, self.digests, self._sources(), advice)

    def check_path(self) -> None:
        """Raise a UserError, in one line, if the folder `path` does not hold the files."""
        if self.path is not None and any(found_in(self.path, name) is None for name in self.files):
            raise UserError(f"path={self.path} must be a folder that holds {' and '.join(self.files)}")

    def pool(self, *parts: Part) -> Pool:
        """Return the training part and the test part, inputs and labels of each, as one pool.

        Raises:
            UserError: in one line, if they have other sizes or other classes than `info` says.
        """
        info = self.info()
        shape = (*info.image[1:], info.image[0]) if info.images else info.shape
        assert isinstance(shape, tuple)  # a published dataset has one input
        for (inputs, labels), count in zip(parts, (info.train, info.test), strict=True):
            if inputs.shape != (count, *shape) or set(labels.tolist()) != set(info.classes):
                raise UserError(
                    f"{self.name}: its files hold {inputs.shape} in {len(set(labels.tolist()))} classes, expected "
                    f"{(count, *shape)} in {len(info.classes)}"
                )
        inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Pool(inputs, labels.astype(np.int64), info.train, len(info.classes), images=info.images)

    def is_here(self) -> bool:
        """Return whether the cache, or the folder `path`, holds the files; see `Dataset.is_here`."""
        return self.path is not None or cached_size(self.name, self.digests) is not None

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return cached_status(cls.name, cls.digests)

    def from_folder(self, folder: str | Path) -> Arrays:
        """Return the arrays of the files in a folder.

        Raises:
            Unavailable: if a file is missing or invalid.
        """
        return self._read(partial(self._file, folder))

    def _sources(self) -> Sequence[tuple[str, Callable[[], Arrays]]]:
        if self.path is not None:
            return [(self.path, partial(self.from_folder, self.path))]
        addresses = next(iter(self.files.values()))  # all files have the same servers
        servers = [(urlsplit(each).netloc, position) for position, each in enumerate(addresses)]
        found = [(server, partial(self._read, partial(self._download, position))) for server, position in servers]
        return [*found, *self.other_sources()]

    def _read(self, read: Reader) -> Arrays:
        try:
            return self.decoded({name: read(name) for name in self.files})
        except INVALID as error:
            raise Unavailable(f"not the expected files ({type(error).__name__}: {first_line(error)})") from error

    def _file(self, folder: str | Path, name: str) -> NDArray[np.uint8]:
        path = found_in(folder, name)
        if path is None:
            raise Unavailable(f"no file {name}")
        try:
            return np.frombuffer(read_regular(path, self._most), np.uint8)
        except UnreadableFile as error:
            raise Unavailable(f"{path}: {error.reason}") from error

    def _download(self, position: int, name: str) -> NDArray[np.uint8]:
        return downloaded(self.files[name][position], self._most)

    @property
    def _most(self) -> int:
        return 8 * self.fetched_bytes  # an unpacked file is larger than the published one


def found_in(folder: str | Path, name: str) -> Path | None:
    """Return the path of a file in a folder, or of its unpacked form without `.gz`; None if there is neither."""
    paths = [Path(folder).expanduser() / each for each in (name, name.removesuffix(".gz"))]
    return next((path for path in paths if path.is_file()), None)
