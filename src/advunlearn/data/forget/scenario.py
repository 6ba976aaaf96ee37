"""The interface of forget scenarios: which training examples are to be removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from advunlearn.data.dataset import DatasetInfo
from advunlearn.options import Component
from advunlearn.runtime.arrays import Rows


class Forget(Component):
    """Base class of forget scenarios."""

    group: ClassVar[str] = "forget"

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Return one line for each reason why this is impossible with `train_size` examples of this dataset.

        Each line starts with the name of an option.
        """
        return []

    def required_rows(self, names: Sequence[str] = ()) -> Rows:
        """Return the rows that must be among the training examples; empty by default.

        If it is not empty, these are the rows to forget, and `select` is not called.

        Args:
            names: of all rows of the pool, if rows have names; see `DatasetInfo`.
        """
        return np.array([], dtype=np.int64)

    def forgotten(self, rows: Rows, labels: Rows, names: Sequence[str], rng: np.random.Generator) -> Rows:
        """Return the rows to forget, sorted: the required rows, or without these the rows that `select` chooses."""
        required = self.required_rows(names)
        return required if len(required) else self.select(rows, labels, rng)

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return those of the training `rows`, whose classes are `labels`, that are to be forgotten."""
        raise NotImplementedError
