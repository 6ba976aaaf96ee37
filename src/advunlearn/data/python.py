"""Examples that a Python function of the user returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.inputs import in_torch_type, not_finite
from advunlearn.data.labels import numbered, plain, stored_labels
from advunlearn.options import UserError, imported, located, option, source_digest
from advunlearn.runtime.arrays import Labels, Rows
from advunlearn.runtime.progress import progress

AT_ONCE = 64  # examples that a worker process returns together
CHANNELS = (1, 3)  # of an image
LABEL_KEYS = ("label", "labels")  # of an item that is a dict
COMPARED = 32  # items whose labels are compared with those that the dataset holds in an attribute


@dataclass
class Python(Dataset):
    """A Python function of the user that returns a torch Dataset, or a sequence, of pairs of inputs and a label.

    The inputs are a tensor, an array, a number or a PIL image, or several of these in a dict or a tuple. The inputs in
    a tuple get the names `input0`, `input1`, and so on. An item may also be a dict with the key `label` or `labels`;
    its other values are the inputs. Images are PIL images, tensors (c, h, w) and arrays (h, w, c), of 1 or 3 channels.
    Floating-point images are not normalised, unless `mean` and `std` are given. Labels are whole numbers or texts;
    classes are numbered in the sorted order of the labels. Every example is read once, when a run starts.

    Attributes:
        factory, test_factory: import paths of the functions that return the training part and the test part.
        arguments: keyword arguments of both functions.
        workers: number of processes that read the examples; 0 reads them in the main process.

    References:
        No publication.
    """

    factory: str | None = None
    test_factory: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    workers: int = option(0, at_least=0)

    def info(self) -> DatasetInfo:
        """Return the sizes from the first example and the labels; see `Dataset.info`."""
        sources = [source_digest(imported(path, key)) for key, path in self._factories()]
        return _info(json.dumps([self._factories(), self.arguments, sources, self.workers]))

    def load(self) -> Pool:
        """Return all examples; see `Dataset.load`.

        Raises:
            UserError: in one line, if an example cannot be read, differs from example 0 in type or shape, or is not
                finite.
        """
        parts = _parts(self._factories(), self.arguments)
        examples = [each for part in parts for each in _examples(part, self.workers)]
        kind, train_rows = examples[0], len(parts[0])
        for row, each in enumerate(examples):
            if each.about != kind.about:
                raise UserError(f"factory={self.factory}: example {row} is {each.about}, example 0 is {kind.about}")
        arrays = {name: _stacked([each.inputs[name] for each in examples], name) for name in kind.inputs}
        labels, classes = _numbered([each.label for each in examples], train_rows)
        inputs = arrays["inputs"] if kind.alone else arrays
        return Pool(inputs, labels, train_rows, len(classes), kind.image)

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return None for floating-point images, which the function has prepared; see `Dataset.statistics`."""
        prepared = isinstance(pool.inputs, dict) or pool.inputs.dtype != np.uint8
        return None if prepared and self.mean is None else super().statistics(pool, rows)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "your own function: dataset.factory=mypkg.data:train_set"

    def _factories(self) -> list[tuple[str, str]]:
        """Return the name and the value of each option that names a function."""
        if self.factory is None:
            raise UserError("factory must be the import path of a function (try dataset.factory=mypkg.data:train_set)")
        named = [("factory", self.factory), ("test_factory", self.test_factory)]
        return [(key, path) for key, path in named if path is not None]


@dataclass(frozen=True)
class _Example:
    """An example.

    Attributes:
        inputs: the arrays by name.
        alone: whether the inputs are one array, whose name is `inputs`.
        image: whether this array is an image.
        label: a Python object.
    """

    inputs: dict[str, NDArray[Any]]
    alone: bool
    image: bool
    label: Any

    @property
    def about(self) -> str:
        """Return names, types and shapes in words, which must be the same for all examples."""
        each = [f"{name} {array.dtype} {array.shape}" for name, array in self.inputs.items()]
        return f"{'an image, ' if self.image else ''}{', '.join(each)}"


@lru_cache(10)  # the runs of a sweep ask the same; the sizes are kept, not the examples
def _info(about: str) -> DatasetInfo:
    from torch.utils.data import Subset

    factories, arguments, _, workers = json.loads(about)
    parts = _parts(factories, arguments)
    first, again = (_examples(Subset(parts[0], [0]), 0)[0] for _ in range(2))
    if first.about != again.about or not _equal(first, again):
        hint = "leave out what is random (dataset.augment=flip_crop mirrors and shifts images)"
        raise UserError(f"factory={factories[0][1]}: example 0 is another one each time it is read; {hint}")
    labels, classes = _numbered([label for part in parts for label in _labels(part, workers)], len(parts[0]))
    shapes = {name: _shape(array, first.image) for name, array in first.inputs.items()}
    return DatasetInfo(
        train=len(parts[0]),
        test=len(labels) - len(parts[0]),
        classes=tuple(range(len(classes))),
        shape=shapes["inputs"] if first.alone else shapes,
        images=first.image,
        whole_numbers=not first.image and all(array.dtype.kind in "iub" for array in first.inputs.values()),
        example_bytes=sum(array.nbytes for array in first.inputs.values()),
    )


def _parts(factories: list[tuple[str, str]], arguments: dict[str, Any]) -> list[Any]:
    """Return what the functions return: the training part, and the test part if there is one."""
    parts = []
    for key, path in factories:
        try:
            part = imported(path, key)(**arguments)
            empty = len(part) == 0
        except UserError:
            raise
        except Exception as error:  # a function of the user may raise any
            raise UserError(f"{key}={path}: {located(error)}") from error
        if empty:
            raise UserError(f"{key}={path} returned no example")
        parts.append(part)
    return parts


def _labels(part: Any, workers: int) -> list[Any]:
    """Return the labels: those that the dataset holds in an attribute if some items agree, else those of all items."""
    from torch.utils.data import Subset

    found = stored_labels(part)
    if found is not None:
        rows = np.unique(np.linspace(0, len(part) - 1, COMPARED).astype(int)).tolist()
        if [found[row] for row in rows] == [each.label for each in _examples(Subset(part, rows), 0)]:
            return found
    return [each.label for each in _examples(part, workers)]


def _examples(part: Any, workers: int) -> list[_Example]:
    """Return all examples of a part, read by this number of processes; 0 is the main process."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(part, AT_ONCE, num_workers=workers, collate_fn=lambda items: list(map(_example, items)))
    try:
        return [each for batch in progress(loader, "read") for each in batch]
    except Exception as error:  # a dataset of the user may raise any; of a worker, the message is a traceback
        lines = str(error).replace("\\n", "\n").strip().splitlines()
        reason = lines[-1] if workers else str(error) if isinstance(error, UserError) else located(error)
        raise UserError(f"factory: an example cannot be read ({reason})") from error


def _pair(item: Any) -> tuple[Any, Any]:
    """Return inputs and label of an item, a pair or a dict."""
    if isinstance(item, Mapping):
        key = next((key for key in LABEL_KEYS if key in item), None)
        inputs = {name: value for name, value in item.items() if name != key}
        if key is None or not inputs:
            raise UserError(f"a dict must hold `label` and inputs, got {', '.join(map(str, item))}")
        return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), item[key]
    try:
        inputs, label = item
    except (TypeError, ValueError) as error:
        several = f" of {len(item)}; several inputs are a tuple, ((a, b), label)" if isinstance(item, tuple) else ""
        words = f"it must be a pair of inputs and a label, got {type(item).__name__}{several}"
        raise UserError(words) from error
    return inputs, label


def _example(item: Any) -> _Example:
    """Return the arrays and the label of an item."""
    inputs, label = _pair(item)
    if isinstance(inputs, tuple):
        inputs = {f"input{number}": each for number, each in enumerate(inputs)}
    several = isinstance(inputs, Mapping)
    by_name = inputs if several else {"inputs": inputs}
    arrays = {str(name): _array(each, alone=not several) for name, each in by_name.items()}
    return _Example(arrays, not several, not several and _is_image(arrays["inputs"]), plain(label))


def _array(value: Any, *, alone: bool) -> NDArray[Any]:
    """Return inputs as an array of numbers; an image is (h, w, c), and a single number (1,)."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if alone and array.ndim == 3 and len(array) in CHANNELS else array
    elif hasattr(value, "convert"):  # a PIL image
        array = np.asarray(value.convert("L" if value.mode in ("1", "L") else "RGB"))
        array = array[..., None] if array.ndim == 2 else array
    else:
        array = np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise UserError(f"inputs must be numbers, tensors, arrays or images, got {type(value).__name__}")
    array = in_torch_type(array)
    return array[None] if alone and array.ndim == 0 else array


def _is_image(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] in CHANNELS and (array.dtype == np.uint8 or array.dtype.kind == "f")


def _equal(first: _Example, second: _Example) -> bool:
    return all(np.array_equal(array, second.inputs[name], equal_nan=True) for name, array in first.inputs.items())


def _stacked(arrays: list[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return the arrays of all examples as one.

    Raises:
        UserError: in one line, if a number is not finite.
    """
    whole = np.stack(arrays)
    bad = not_finite(whole)
    if bad.any():
        raise UserError(
            f"factory: {name} of {bad.sum()} examples are not finite, the first of them example {bad.argmax()}"
        )
    return whole


def _numbered(labels: list[Any], train_rows: int) -> tuple[Labels, list[str]]:
    try:
        return numbered(labels, train_rows)
    except UserError as error:
        raise UserError(f"factory: {error}") from error


def _shape(array: NDArray[Any], image: bool) -> tuple[int, ...]:
    """Return the shape of an example, (c, h, w) of an image."""
    return (array.shape[2], *array.shape[:2]) if image else array.shape
