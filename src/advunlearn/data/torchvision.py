"""The classification sets of torchvision."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.labels import numbered
from advunlearn.data.pictures import IN_MEMORY, Pictures, Source, digest_of, kept, readable, state_of
from advunlearn.options import UserError, in_one_line, nearest
from advunlearn.runtime.arrays import Labels
from advunlearn.storage.files import FULL
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

TRAIN, TEST = ("train", "trainval", "train-standard"), ("test", "val", "valid")  # what classes call their parts
LABELS = ("targets", "labels", "_labels", "y")  # where they keep the labels
PAIRS = ("_samples", "samples")  # where they keep pairs of an image and a label


@dataclass
class Torchvision(Pictures):
    """A classification set of torchvision, such as FashionMNIST, CIFAR100, SVHN, Flowers102 or EuroSAT.

    It is downloaded if `root` does not hold it, and decoded once. Its training part and its test part are those of the
    class's own argument `train` or `split`; some classes have only one part.

    Attributes:
        name: of the class in `torchvision.datasets`.
        root: the folder that holds it; null: one in the cache.
        arguments: further arguments of the class, by name, such as `split` of EMNIST.

    References:
        No publication.
    """

    name: str | None = None
    root: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    gray: bool | None = None

    def info(self) -> DatasetInfo:
        """Return the sizes; the set is downloaded if it is not there; see `Dataset.info`."""
        about = self._about()
        large = len(about.labels) * math.prod(about.shape) > IN_MEMORY
        return DatasetInfo(
            train=about.train_rows,
            test=len(about.labels) - about.train_rows,
            classes=tuple(range(len(about.classes))),
            shape=about.shape,
            example_bytes=0 if large else None,
        )

    def load(self) -> Pool:
        """Return all images; see `Dataset.load`.

        Raises:
            UserError: in one line, if an image cannot be read or has another size.
        """
        about = self._about()
        name = f"{self.name}-{digest_of(str(self._folder.resolve()), self.arguments, self.size, self.gray)}"
        names = [f"example {row} of {self.name}" for row in range(len(about.labels))]
        parts = functools.cache(self._parts)  # which are not needed if the images are in the cache

        def read(row: int) -> Image:
            part, position = (0, row) if row < about.train_rows else (1, row - about.train_rows)
            return self.fitted(parts()[part][position][0], gray=about.shape[0] == 1)

        found = kept(Source(name, state_of(self._folder), names, read))
        classes = len(about.classes)
        return Pool(found.images, about.labels, about.train_rows, classes, True, found.digest, found.moments)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "a set of torchvision: dataset.name=FashionMNIST"

    @property
    def _folder(self) -> Path:
        own = cache_folder() / "data" / "torchvision" / str(self.name)
        return own if self.root is None else Path(self.root).expanduser()

    def _about(self) -> _About:
        """Return what is known without decoding; the same for all runs of a sweep."""
        if self.name is None:
            raise UserError("name must be that of a classification set of torchvision (try dataset.name=FashionMNIST)")
        key = repr((self.name, self.root, self.arguments, self.size, self.gray))
        if _known.get(key, (None,))[0] != state_of(self._folder):
            about = self._read_about()
            _known[key] = (state_of(self._folder), about)
        return _known[key][1]

    def _read_about(self) -> _About:
        parts = self._parts()
        try:
            labels, classes = numbered(np.concatenate([_labels(part) for part in parts]), len(parts[0]))
        except UserError as error:
            raise UserError(f"name={self.name} is no classification set: {error}") from error
        with readable(f"name={self.name}: example 0"):
            shape = self.shape_of(parts[0][0][0])
        return _About(labels, len(parts[0]), classes, shape)

    def _parts(self) -> list[Any]:
        """Return the training part, and the test part if there is one."""
        cls = _class_of(str(self.name))
        options = dict(_parameters(cls))
        if "train" in options:
            return [self._part(cls, train=True), self._part(cls, train=False)]
        train = self._part(cls)
        if options.get("split") not in TRAIN or "split" in self.arguments:
            return [train]
        for name in TEST:
            try:
                return [train, self._part(cls, split=name)]
            except ValueError as error:
                if isinstance(error, UserError):
                    raise
        return [train]

    def _part(self, cls: Callable[..., Any], **which: Any) -> Any:
        """Return a part, downloaded if it is not there.

        Raises:
            ValueError: of the class, if it has no such part.
            UserError: in one line, if it cannot be had.
        """
        arguments = {**self.arguments, **which}
        try:
            return cls(str(self._folder), **arguments)
        except (RuntimeError, OSError) as error:
            if "download" not in dict(_parameters(cls)):
                raise UserError(f"root={self._folder} does not hold {self.name} ({in_one_line(error)})") from error
        except TypeError as error:
            raise UserError(f"arguments do not fit {self.name} ({error})") from error
        try:
            with claim(cache_folder() / "data" / "torchvision" / f"{self.name}.claim"):
                logger.info("downloading %s into %s", self.name, self._folder)
                return cls(str(self._folder), download=True, **arguments)
        except Exception as error:  # the network may raise any
            if getattr(error, "errno", None) in FULL:
                raise
            own = "try dataset.root=FOLDER with your own copy"
            raise UserError(f"name={self.name} could not be downloaded ({in_one_line(error)}); {own}") from error


@dataclass(frozen=True)
class _About:
    """What is known of a set before it is decoded; the labels of the training part come first."""

    labels: Labels
    train_rows: int
    classes: list[str]
    shape: tuple[int, int, int]


_known: dict[str, tuple[str, _About]] = {}  # by the options; with the state of the files


def _class_of(name: str) -> Callable[..., Any]:
    """Return the class of torchvision with this name.

    Raises:
        UserError: in one line, if there is none of files.
    """
    from torchvision import datasets

    if name not in datasets.__all__ or "root" not in dict(_parameters(getattr(datasets, name))):
        near = nearest(name, datasets.__all__, "dataset.name=")
        raise UserError(f"name must be a classification set of torchvision, got {name}{near}")
    found: Callable[..., Any] = getattr(datasets, name)
    return found


def _parameters(cls: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of a class with their defaults; those of its bases as well if it passes them on."""
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            yield from ((each.name, each.default) for each in parameters)
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                return


def _labels(part: Any) -> NDArray[Any]:
    """Return the labels of a part, without decoding its images if the class says where they are."""
    for name in (*LABELS, *PAIRS):
        found = getattr(part, name, None)
        if found is not None and len(found) == len(part):
            return np.asarray([pair[1] for pair in found] if name in PAIRS else found)
    return np.asarray([part[position][1] for position in range(len(part))])
