"""Labels of any kind as classes 0, 1, ..., in sorted order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.options import UserError
from advunlearn.runtime.arrays import Labels


def numbered(labels: NDArray[Any], train_rows: int) -> tuple[Labels, list[str]]:
    """Return the class of each label (n,), and the names of the classes.

    Classes are the labels of the first `train_rows`, in sorted order.

    Raises:
        UserError: in one line, if they have no order, are fractions, or if a later one is none of them.
    """
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
