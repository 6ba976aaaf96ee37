"""Datasets in the format of the library `datasets` of Hugging Face, from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.inputs import Arrays, Shape
from advunlearn.data.labels import numbered
from advunlearn.data.pictures import Pictures, Source, bytes_in_memory, digest_of, item_of, kept, readable
from advunlearn.options import UserError, in_one_line, option
from advunlearn.runtime.arrays import Labels
from advunlearn.runtime.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

AT_ONCE = 1000  # texts that are tokenised together
TEST = ("test", "validation")  # names of splits that can be the test part by default
INSTALL = "is not installed (pip install 'advunlearn[huggingface]')"


@dataclass
class HuggingFace(Pictures):
    """A classification dataset of images, texts or numbers: a folder that `datasets` reads, or a name on the hub.

    Images are decoded once and kept in the cache. Texts become two named inputs, `input_ids` and `attention_mask`, as
    the models of `transformers` take them. Numbers are not changed. Classes are numbered in the sorted order of the
    labels.

    Attributes:
        path: a folder that `save_to_disk` wrote, a folder of Parquet, CSV or image files, or a name on the hub.
        config: name of the configuration of a dataset on the hub, if it has several.
        revision: a commit, a tag or a branch of a dataset on the hub.
        train_split, test_split: names of the splits; null: the test part is `test` or `validation`, if the dataset has
            such a split.
        input, label: names of the columns.
        tokenizer: for texts, a local folder or a name on the hub.
        max_length: in tokens; longer texts are truncated, shorter texts are padded.

    References:
        No publication.
    """

    path: str | None = None
    config: str | None = None
    revision: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    input: str = "image"
    label: str = "label"
    tokenizer: str | None = None
    max_length: int = option(128, at_least=1)
    gray: bool | None = None

    def info(self) -> DatasetInfo:
        """Return the sizes from the labels and the first example; see `Dataset.info`."""
        parts = self._parts()
        labels, classes = self._labels(parts)
        kind, train_rows = self._kind(parts[0]), len(parts[0])
        shape, each = self._shape(parts[0], kind, len(labels))
        return DatasetInfo(
            train=train_rows,
            test=len(labels) - train_rows,
            classes=tuple(range(len(classes))),
            shape=shape,
            images=kind == "image",
            whole_numbers=kind == "text",
            example_bytes=each,
        )

    def load(self) -> Pool:
        """Return all examples; see `Dataset.load`.

        Raises:
            UserError: in one line, if an example cannot be read or has another size.
        """
        parts = self._parts()
        labels, classes = self._labels(parts)
        kind, train_rows, count = self._kind(parts[0]), len(parts[0]), len(classes)
        if kind == "image":
            return kept(self._source(parts)).pool(labels, train_rows, count)
        inputs: Arrays = self._tokens(parts) if kind == "text" else self._numbers(parts)
        return Pool(inputs, labels, train_rows, count, images=False)

    @classmethod
    def status(cls) -> str:
        """See `Dataset.status`."""
        return "a Hugging Face dataset: dataset.path=FOLDER"

    def _parts(self) -> list[Any]:
        """Return the training part, and the test part if there is one."""
        if self.path is None:
            raise UserError("path must be a folder or the name of a dataset on the hub (try dataset.path=FOLDER)")
        splits = self._splits()
        known = ", ".join(splits)
        for name in filter(None, (self.train_split, self.test_split)):
            if name not in splits:
                raise UserError(f"path={self.path} has no split {name}; there are {known}")
        test = self.test_split or next((name for name in TEST if name in splits and name != self.train_split), None)
        parts = [splits[name] for name in (self.train_split, test) if name is not None]
        columns = parts[0].column_names
        for key, name in (("input", self.input), ("label", self.label)):
            if name not in columns:
                raise UserError(f"{key} must be a column of the dataset, {', '.join(columns)}, got {name}")
        return parts

    def _splits(self) -> dict[str, Any]:
        try:
            import datasets
        except ImportError as error:
            raise UserError(f"path={self.path}: the library datasets {INSTALL}") from error
        folder = Path(str(self.path)).expanduser()
        try:
            if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
                found = datasets.load_from_disk(str(folder))
            else:
                where = str(folder) if folder.exists() else self.path
                found = datasets.load_dataset(where, self.config, revision=self.revision)
        except Exception as error:  # the library and the network raise errors of many types
            raise UserError(f"path={self.path} cannot be loaded ({in_one_line(error)})") from error
        return dict(found) if isinstance(found, dict) else {self.train_split: found}

    def _labels(self, parts: list[Any]) -> tuple[Labels, list[str]]:
        labels = [label for part in parts for label in part[self.label]]
        try:
            return numbered(labels, len(parts[0]))
        except UserError as error:
            raise UserError(f"label={self.label}: {error}") from error

    def _kind(self, part: Any) -> str:
        """Return what the inputs are: `image`, `text` or `numbers`.

        Raises:
            UserError: in one line, if texts have no tokenizer, or if a tokenizer is given for other inputs.
        """
        feature = part.features[self.input]
        dtype = getattr(feature, "dtype", "")
        kind = "image" if type(feature).__name__ == "Image" else "text" if "string" in dtype else "numbers"
        if kind == "text" and self.tokenizer is None:
            raise UserError(f"tokenizer must be given for texts (column {self.input}; try dataset.tokenizer=FOLDER)")
        if kind != "text" and self.tokenizer is not None:
            raise UserError(f"input={self.input} holds no texts, which dataset.tokenizer needs")
        return kind

    def _shape(self, part: Any, kind: str, count: int) -> tuple[Shape, int]:
        """Return the shape of an example, and the memory that each of so many examples takes in bytes."""
        if kind == "text":
            return token_shape(self.max_length)
        if kind == "image":
            with readable(f"path={self.path}: example 0"):
                shape = self.shape_of(part[0][self.input])
            return shape, bytes_in_memory(count, shape)
        first = _as_numbers([part[0][self.input]], self.input)[0]
        return first.shape, first.nbytes

    def _source(self, parts: list[Any]) -> Source:
        """Return the images for the cache, with the fingerprints that `datasets` gives each state of its data."""
        gray = self.is_gray(parts[0][0][self.input])
        names = [f"example {row}" for row in range(sum(map(len, parts)))]

        def read(row: int) -> Image:
            return self.fitted(item_of(parts, row)[self.input], gray=gray)

        state = repr([part._fingerprint for part in parts])
        name = digest_of(self.path, self.config, self.revision, self.input, self.size, self.gray)
        return Source(f"{Path(str(self.path)).name[:40]}-{name}", state, f"dataset.path={self.path}", names, read)

    def _tokens(self, parts: list[Any]) -> Arrays:
        return tokenised(
            [text or "" for part in parts for text in part[self.input]], str(self.tokenizer), self.max_length
        )

    def _numbers(self, parts: list[Any]) -> NDArray[Any]:
        return _as_numbers([value for part in parts for value in part[self.input]], self.input)


def tokenised(texts: Sequence[str], name: str, max_length: int) -> dict[str, NDArray[Any]]:
    """Return the tokens of texts, as the models of transformers take them: `input_ids` and `attention_mask`.

    Args:
        name: of the tokenizer, a folder or a name on the hub.
        max_length: tokens; longer texts are truncated, shorter texts are padded.

    Raises:
        UserError: in one line, if the tokenizer cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise UserError(f"tokenizer={name}: the library transformers {INSTALL}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(Path(name).expanduser()))
    except Exception as error:  # the library and the network raise errors of many types
        raise UserError(f"tokenizer={name} cannot be loaded ({in_one_line(error)})") from error
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    options = {"padding": "max_length", "truncation": True, "max_length": max_length, "return_tensors": "np"}
    found = [
        tokenizer(texts[start : start + AT_ONCE], **options)
        for start in progress(range(0, len(texts), AT_ONCE), "tokenise")
    ]
    types = {"input_ids": np.int32, "attention_mask": np.int8}
    return {key: np.concatenate([each[key] for each in found]).astype(kind) for key, kind in types.items()}


def token_shape(max_length: int) -> tuple[Shape, int]:
    """Return the shape of a text in `tokenised`, and its size in bytes."""
    return {"input_ids": (max_length,), "attention_mask": (max_length,)}, 5 * max_length


def _as_numbers(values: list[Any], name: str) -> NDArray[Any]:
    """Return values as an array (n, ...), floats as float32, other numbers as int64.

    Raises:
        UserError: in one line, if values are not numbers, have different shapes, or are not finite.
    """
    try:
        array = np.array(values)
    except ValueError as error:
        raise UserError(f"input={name} holds values of different lengths") from error
    if array.dtype.kind not in "iufb":
        raise UserError(f"input={name} must hold images, texts or numbers, got {array.dtype}")
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    if not np.isfinite(array).all():
        raise UserError(f"input={name} must be finite, and holds NaN or infinite numbers")
    return array[:, None] if array.ndim == 1 else array
