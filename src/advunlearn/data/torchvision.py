"""The classification datasets of torchvision."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.labels import numbered, plain, stored_labels
from advunlearn.data.pictures import Pictures, Source, bytes_in_memory, digest_of, item_of, kept, readable, state_of
from advunlearn.options import UserError, in_one_line, nearest
from advunlearn.runtime.arrays import Labels
from advunlearn.storage.files import FULL
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

TRAIN, TEST = ("train", "trainval", "train-standard"), ("test", "val", "valid")  # names of the parts of a dataset


@dataclass
class Torchvision(Pictures):
    """A classification dataset of torchvision, such as FashionMNIST, CIFAR100, SVHN, Flowers102 or EuroSAT.

    It is downloaded if `root` does not hold it, and decoded once. The training part and the test part are selected by
    the argument `train` or `split` of its class; some classes have only one part.

    Attributes:
        name: of the class in `torchvision.datasets`.
        root: the folder that holds the files; null: a folder in the cache.
        arguments: further keyword arguments of the class, such as `split` of EMNIST.

    References:
        No publication.
    """

    name: str | None = None
    root: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    gray: bool | None = None

    def info(self) -> DatasetInfo:
        """Return the sizes; the dataset is downloaded if necessary; see `Dataset.info`."""
        about = self._about()
        return DatasetInfo(
            train=about.train_rows,
            test=len(about.labels) - about.train_rows,
            classes=tuple(range(len(about.classes))),
            shape=about.shape,
            example_bytes=bytes_in_memory(len(about.labels), about.shape),
        )

    def load(self) -> Pool:
        """Return all images; see `Dataset.load`.

        Raises:
            UserError: in one line, if an image cannot be read or has another size.
        """
        about = self._about()
        folder = f"{self.name}-{digest_of(str(self._folder.resolve()), self.arguments, self.size, self.gray)}"
        names = [f"example {row}" for row in range(len(about.labels))]
        parts = functools.cache(self._parts)  # not needed if the images are in the cache

        def read(row: int) -> Image:
            return self.fitted(item_of(parts(), row)[0], gray=about.shape[0] == 1)

        found = kept(Source(folder, about.state, f"dataset.name={self.name}", names, read))
        return found.pool(about.labels, about.train_rows, len(about.classes))

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "a torchvision dataset: dataset.name=FashionMNIST"

    @property
    def _folder(self) -> Path:
        own = cache_folder() / "data" / "torchvision" / str(self.name)
        return own if self.root is None else Path(self.root).expanduser()

    def _about(self) -> _About:
        """Return what is known without decoding; the runs of a sweep read it once."""
        if self.name is None:
            raise UserError("name must be that of a classification set of torchvision (try dataset.name=FashionMNIST)")
        key = repr((self.name, self.root, self.arguments, self.size, self.gray))
        if key not in _known or _known[key].state != state_of(self._folder):
            _known[key] = self._read_about()
        return _known[key]

    def _read_about(self) -> _About:
        parts = self._parts()
        try:
            labels, classes = numbered([label for part in parts for label in _labels(part)], len(parts[0]))
        except UserError as error:
            raise UserError(f"name={self.name} is no classification set: {error}") from error
        with readable(f"name={self.name}: example 0"):
            shape = self.shape_of(parts[0][0][0])
        return _About(labels, len(parts[0]), classes, shape, state_of(self._folder))

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
        """Return a part, which is downloaded if necessary.

        Raises:
            ValueError: by the class, if it has no such part.
            UserError: in one line, if the part cannot be read or downloaded.
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
        except Exception as error:  # the network can raise any
            if getattr(error, "errno", None) in FULL:
                raise
            own = "try dataset.root=FOLDER with your own copy"
            raise UserError(f"name={self.name} could not be downloaded ({in_one_line(error)}); {own}") from error


@dataclass(frozen=True)
class _About:
    """What is known of a set before it is decoded.

    Attributes:
        labels: of all examples, the training part first.
        train_rows: number of examples in the training part.
        classes: names of the classes.
        shape: of an image, (channels, height, width).
        state: of the files; see `state_of`.
    """

    labels: Labels
    train_rows: int
    classes: list[str]
    shape: tuple[int, int, int]
    state: str


_known: dict[str, _About] = {}  # by the options; not an lru_cache, as the state is known only after a download


def _class_of(name: str) -> Callable[..., Any]:
    """Return the class of torchvision with this name.

    Raises:
        UserError: in one line, if torchvision has no such class, or if the class reads no files.
    """
    from torchvision import datasets

    if name not in datasets.__all__ or "root" not in dict(_parameters(getattr(datasets, name))):
        near = nearest(name, datasets.__all__, "dataset.name=")
        raise UserError(f"name must be a classification set of torchvision, got {name}{near}")
    found: Callable[..., Any] = getattr(datasets, name)
    return found


def _parameters(cls: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of a class with their defaults, and those of its bases if it takes `**kwargs`."""
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            yield from ((each.name, each.default) for each in parameters)
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                return


def _labels(part: Any) -> list[Any]:
    """Return the labels of a part; its images are decoded only if no attribute holds the labels."""
    found = stored_labels(part)
    return [plain(part[position][1]) for position in range(len(part))] if found is None else found
