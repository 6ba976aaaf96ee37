"""The rows for training, forgetting, the audit, selection and the test: disjoint sets of rows of the pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.by_class import positions_by_class
from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.forget.scenario import Forget
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.storage.files import atomic_write

HELD_OUT = 0.3  # of a dataset without a test part, if train_size is null


@dataclass(frozen=True)
class Splits:
    """Sorted rows of the pool, each row in at most one of the five.

    Attributes:
        retain, forget: the training examples to keep and to remove.
        audit: held-out examples for the game's auditor.
        selection: held-out examples on which hyperparameters and epochs are chosen.
        test: held-out examples for the final evaluation only.
    """

    retain: Rows
    forget: Rows
    audit: Rows
    selection: Rows
    test: Rows

    def __post_init__(self) -> None:
        """Check that no row is in two sets, and that there is something to retain and to forget.

        Raises:
            ValueError: if one is.
        """
        empty = [name for name in ("retain", "forget") if len(getattr(self, name)) == 0]
        if empty:
            raise UserError(f"the {empty[0]} set is empty; change dataset.train_size or the forget options")
        together = np.concatenate(list(vars(self).values()))
        if len(np.unique(together)) < len(together):
            raise UserError("the splits overlap")

    @property
    def train(self) -> Rows:
        """Return the rows that the original model is trained on."""
        return np.sort(np.concatenate([self.retain, self.forget]))

    def save(self, path: Path) -> None:
        """Write the five sets as arrays of one npz file."""
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Splits:
        """Return the sets that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})


def train_size_of(info: DatasetInfo, dataset: Dataset) -> int:
    """Return how many examples the original model is trained on."""
    if dataset.train_size is not None:
        return dataset.train_size
    return info.train if info.test else info.train - math.ceil(HELD_OUT * info.train)


def check_sizes(info: DatasetInfo, dataset: Dataset, forget: Forget) -> list[str]:
    """Return one line for each conflict of dataset and forget scenario, with an option's full key."""
    size = train_size_of(info, dataset)
    held_out = info.test or info.train - size
    if len(info.classes) < 2:
        return [f"dataset must have examples of two classes or more, got one class ({info.classes[0]})"]
    if size > info.train:
        return [f"dataset.train_size must be at most {info.train}, the dataset's training examples, got {size}"]
    if min(_parts(held_out, dataset)) < 1:
        return [
            f"dataset.train_size={size} leaves {max(held_out, 0)} held-out examples, "
            "too few for audit, selection and test"
        ]
    if size < len(info.classes):
        return [f"dataset.train_size must be at least {len(info.classes)}, one example a class, got {size}"]
    return [f"forget.{problem}" for problem in forget.problems(info, size)]


def make_splits(
    pool: Pool, dataset: Dataset, forget: Forget, seed: int, difficulty: NDArray[np.float64] | None = None
) -> Splits:
    """Return the splits for these options, this seed and, if the scenario needs it, a difficulty; see `Forget.choose`.

    The training examples and the three held-out sets are stratified by class. The forget scenario does not change the
    held-out sets, except for rows that it requires to be trained on.

    Raises:
        ValueError: if the options do not fit the data.
    """
    rows = np.arange(len(pool.labels))
    info = pool.info
    problems = check_sizes(info, dataset, forget)
    if problems:
        raise UserError(problems[0])
    rng = numpy_stream(seed, "split")
    train, left = _draw(rows[: pool.train_rows], pool.labels, train_size_of(info, dataset), rng)
    held_out = rows[pool.train_rows :] if info.test else left
    audit_size, selection_size, _ = _parts(len(held_out), dataset)
    audit, others = _draw(held_out, pool.labels, audit_size, rng)
    selection, test = _draw(others, pool.labels, selection_size, rng)
    required = forget.required_rows(pool.names)
    train, audit, selection, test = _require(
        required, [train, audit, selection, test], pool.labels, numpy_stream(seed, "required")
    )
    forgotten = forget.forgotten(train, pool, numpy_stream(seed, "forget"), difficulty)
    return Splits(np.setdiff1d(train, forgotten), forgotten, audit, selection, test)


def _parts(held_out: int, dataset: Dataset) -> tuple[int, int, int]:
    """Return the sizes of audit, selection and test set."""
    audit, selection = (int(held_out * part) for part in (dataset.audit_fraction, dataset.selection_fraction))
    return audit, selection, held_out - audit - selection


def _draw(rows: Rows, labels: Rows, size: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return `size` of the rows and the others, both sorted; each class is divided in proportion, up to one row."""
    if size == len(rows):
        return rows, rows[:0]
    counts = np.unique(labels[rows], return_counts=True)[1]
    seed = int(rng.integers(2**31))
    if counts.min() < 2 or min(size, len(rows) - size) < len(counts):  # scikit-learn refuses to stratify these
        drawn = _draw_evenly(rows, labels, size, np.random.default_rng(seed))
        return drawn, np.setdiff1d(rows, drawn)
    from sklearn.model_selection import train_test_split

    drawn, others = train_test_split(rows, train_size=size, random_state=seed, stratify=labels[rows])
    return np.sort(drawn), np.sort(others)


def _draw_evenly(rows: Rows, labels: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Return `size` of the rows, sorted: evenly spaced in an order by class, random within and among the classes."""
    classes = rng.permutation(labels.max() + 1)
    shuffled = rng.permutation(rows)
    in_order = shuffled[np.argsort(classes[labels[shuffled]], kind="stable")]
    places = (np.arange(size) + rng.random()) * len(rows) / size
    return np.sort(in_order[np.minimum(places.astype(np.int64), len(rows) - 1)])


def _require(required: Rows, parts: list[Rows], labels: Rows, rng: np.random.Generator) -> list[Rows]:
    """Move the required rows into the first part, each in exchange for another one, of its class if possible."""
    train = parts[0]
    missing = np.setdiff1d(required, train)
    free = rng.permutation(np.setdiff1d(train, required))
    given = np.full(len(missing), -1)
    of_class = positions_by_class(labels[free])
    for each, wanted in positions_by_class(labels[missing]).items():
        found = free[of_class.get(each, [])][: len(wanted)]
        given[wanted[: len(found)]] = found
    others = np.setdiff1d(free, given, assume_unique=True)
    given[given < 0] = rng.permutation(others)[: (given < 0).sum()]
    swapped = [np.union1d(np.setdiff1d(train, given), missing)]
    for part in parts[1:]:
        taken = np.isin(missing, part)
        swapped.append(np.union1d(np.setdiff1d(part, missing[taken]), given[taken]))
    return swapped
