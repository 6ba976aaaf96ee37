"""Scores of attacks that are fitted on examples like those that they judge: each example by a fit that never saw it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from advunlearn.options import UserError

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]


def held_out_ranks(
    decide: Callable[[Rows, Rows], Array],
    members: NDArray[np.bool_],
    labels: NDArray[np.int64],
    folds: int,
    rng: np.random.Generator,
) -> Array:
    """Return each example's rank (n,), in (0, 1), among the decision values of its fold.

    Args:
        decide: fits on the rows that its first argument (n,) marks and returns the decision values of those that its
            second one marks, LARGE for members.
        members, labels: (n,), which the folds are stratified by.
        folds: how many.
        rng: draws the folds.
    """
    # Stratified by class as well: where a class has more of its members in one fold, a fit on the others takes it
    # for a class of non-members, and an attack that knows nothing would seem to rank members last.
    # Not by scikit-learn's StratifiedKFold: strata of a class and a side are often smaller than the number of folds,
    # where it may leave a fold without members, or refuse.
    fold = np.empty(len(members), dtype=int)
    fold[np.lexsort((rng.random(len(fold)), labels, members))] = np.arange(len(fold)) % folds
    ranks = np.empty(len(members))
    for number in range(folds):
        judged = fold == number
        # Each fit has its own zero, which leans away from what it holds out; ranks have none.
        ranks[judged] = rankdata(decide(~judged, judged)) / (judged.sum() + 1)
    return ranks


def check_folds(folds: int, members: NDArray[np.bool_], key: str) -> None:
    """Raise a ValueError that names the option `key` where there are fewer members or non-members (n,) than folds."""
    fewest = int(min(members.sum(), (~members).sum()))
    if fewest < folds:
        raise UserError(f"{key}={folds} needs as many members and non-members, got {fewest}")


def balanced_weights(members: NDArray[np.bool_], labels: NDArray[np.int64]) -> Array:
    """Return weights (n,) under which each class's members weigh as much as its non-members, and half of the class.

    Then the class says nothing about membership, however unlike the two sides' class shares are by chance. A class that
    has only one side weighs nothing.

    Raises:
        ValueError: if no class has both.
    """
    counts = np.zeros((labels.max() + 1, 2))
    np.add.at(counts, (labels, members.astype(int)), 1)
    total = counts.sum(axis=1)[labels]
    own = counts[labels, members.astype(int)]
    if (own == total).all():
        raise UserError("no class has both members and non-members, so their classes alone tell them apart")
    return np.where(own < total, total / 2 / own, 0.0)
