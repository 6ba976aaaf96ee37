"""The interface of forget scenarios: which training examples are to be removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.options import Component, option
from advunlearn.runtime.arrays import Rows


@dataclass
class Forget(Component):
    """Base class of forget scenarios.

    Attributes:
        rounds: requests that the forget set is divided into. Each starts from the unlearned model of the one before,
            and forgets the examples of the earlier ones as well. With 1, all examples are forgotten at once.
    """

    group: ClassVar[str] = "forget"

    relabels: ClassVar[bool] = False
    """Whether `relabelled` changes the labels of the forget set before the original is trained."""

    sampled: ClassVar[bool] = False
    """Whether the forget set is a random sample of the training examples: test examples are then alike if unseen."""

    perturbs: ClassVar[bool] = False
    """Whether `perturbed` changes the images of the forget set before the original is trained."""

    rounds: int = option(1, at_least=1)

    @property
    def changes(self) -> str:
        """Return what it changes of the forget set before the original is trained, in a word; empty by default."""
        return "labels" if self.relabels else "images" if self.perturbs else ""

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

    def memorization_models(self) -> int | None:
        """Return how many models the memorization that `choose` needs is estimated with; None if it needs none.

        0: memorization is replaced by a proxy from one short training; see `Memorized`.
        """
        return None

    def forgotten(
        self, rows: Rows, pool: Pool, rng: np.random.Generator, difficulty: NDArray[np.float64] | None = None
    ) -> Rows:
        """Return the rows to forget, sorted: the required rows, or without these the rows that `choose` returns."""
        required = self.required_rows(pool.names)
        return required if len(required) else self.choose(rows, pool, rng, difficulty)

    def choose(self, rows: Rows, pool: Pool, rng: np.random.Generator, difficulty: NDArray[np.float64] | None) -> Rows:
        """Return the rows to forget, sorted: by default those that `select` returns.

        Args:
            rows: the training examples.
            pool: of the dataset.
            rng: the only source of random numbers.
            difficulty: (n,) for all rows of the pool, large if a training example is memorized. None if
                `memorization_models` is None, and also before the models are trained: what is returned then is a
                stand-in of the same size, with which the run is checked and its time is estimated.
        """
        return self.select(rows, pool.labels[rows], rng)

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return those of the training `rows`, whose classes are `labels`, that are to be forgotten."""
        raise NotImplementedError

    def relabelled(self, labels: Rows, classes: Rows, rng: np.random.Generator) -> Rows:
        """Return the labels (n,) that the forget set is trained with, given its own; for scenarios that `relabels`.

        Args:
            labels: of the forget set.
            classes: all classes that occur in training, sorted.
            rng: the only source of random numbers.
        """
        return labels

    def perturbed(self, images: NDArray[Any], rows: Rows, seed: int) -> NDArray[Any]:
        """Return the images (n, h, w, c) that the forget set is trained with, given its own; for one that `perturbs`.

        Args:
            images: of the forget set.
            rows: (n,) of the pool.
            seed: root of the random streams.
        """
        return images
