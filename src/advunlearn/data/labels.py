"""Labels of any kind as classes 0, 1, ..., in sorted order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from advunlearn.options import UserError
from advunlearn.runtime.arrays import Labels

ATTRIBUTES = ("targets", "labels", "_labels", "y")  # in which torch datasets hold their labels
PAIRS = ("_samples", "samples")  # attributes that hold pairs of an input and a label


def stored_labels(dataset: Any) -> list[Any] | None:
    """Return the labels that a torch dataset holds in an attribute, without reading its items; None if it does not.

    The labels of the items may differ, for example because of a `target_transform`.
    """
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return list(dataset.tensors[1].tolist())
    for name in (*ATTRIBUTES, *PAIRS):
        found: Any = getattr(dataset, name, None)
        if not hasattr(found, "__len__") or len(found) != len(dataset):
            continue
        if name in ATTRIBUTES:
            return [plain(label) for label in found]
        if all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
            return [plain(label) for _, label in found]
    return None


def plain(label: Any) -> Any:
    """Return a label of torch or numpy as a Python object."""
    return label.tolist() if hasattr(label, "tolist") else label


def numbered(labels: NDArray[Any] | Sequence[Any], train_rows: int) -> tuple[Labels, list[str]]:
    """Return the class number of each label (n,), and the names of the classes.

    The classes are the different labels of the first `train_rows` examples, in sorted order.

    Raises:
        UserError: in one line, if labels are neither whole numbers nor texts, or if a label occurs in the test part
            only.
    """
    if not isinstance(labels, np.ndarray):
        try:
            labels = np.array(labels, dtype=object if isinstance(labels[0], str) else None)
        except ValueError as error:
            raise UserError("labels must be whole numbers or texts, one for each example, got lists") from error
    if labels.dtype == object:
        labels = np.array([str(each) for each in labels]) if all(isinstance(each, str) for each in labels) else labels
    if labels.dtype.kind not in "iubU" or labels.ndim != 1:
        raise UserError(
            f"labels must be whole numbers or texts, one for each example, got {labels.dtype}{_some(labels)}"
        )
    names, first = np.unique(labels[:train_rows], return_inverse=True)
    others = labels[train_rows:]
    unknown = np.setdiff1d(others, names)
    if len(unknown):
        raise UserError(f"the label {unknown[0]} of the test part does not occur in the training part")
    return np.concatenate([first, np.searchsorted(names, others)]).astype(np.int64), [str(name) for name in names]


def _some(labels: NDArray[Any]) -> str:
    return f" of shape {labels.shape}" if labels.ndim != 1 else f", such as {', '.join(map(repr, labels[:3].tolist()))}"
