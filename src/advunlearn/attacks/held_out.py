"""Cross-fitted scores: an attack scores each example by a fit that did not use that example."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from advunlearn.options import UserError
from advunlearn.runtime.arrays import Floats, Mask


def held_out_ranks(
    decide: Callable[[Mask, Mask], Floats],
    members: Mask,
    labels: NDArray[np.int64],
    folds: int,
    rng: np.random.Generator,
) -> Floats:
    """Return each example's rank (n,), in (0, 1), among the decision values of its fold.

    Args:
        decide: fits on the rows marked by its first argument (n,) and returns the decision values of the rows marked by
            its second one, LARGE for members.
        members, labels: (n,), by which the folds are stratified.
        folds: how many.
        rng: draws the folds.
    """
    from scipy.stats import rankdata  # it takes a second to import

    # Stratified by class as well: if one fold held more of a class's members, a fit on the others would learn that the
    # class consists of non-members, and an attack without information would seem to rank members last.
    # Not by scikit-learn's StratifiedKFold: strata of class and membership are often smaller than the number of folds,
    # and then a fold may have no members, or it raises.
    fold = np.empty(len(members), dtype=int)
    fold[np.lexsort((rng.random(len(fold)), labels, members))] = np.arange(len(fold)) % folds
    ranks = np.empty(len(members))
    for number in range(folds):
        judged = fold == number
        # Each fit has its own zero, biased against the held-out examples; ranks have none.
        ranks[judged] = rankdata(decide(~judged, judged)) / (judged.sum() + 1)
    return ranks


def check_folds(folds: int, members: Mask, key: str) -> None:
    """Raise a ValueError that names the option `key` if there are fewer members or non-members (n,) than folds."""
    fewest = int(min(members.sum(), (~members).sum()))
    if fewest < folds:
        raise UserError(f"{key}={folds} needs as many members and non-members, got {fewest}")


def balanced_weights(members: Mask, labels: NDArray[np.int64]) -> Floats:
    """Return weights (n,) that give the members and the non-members of each class half of the weight of the class.

    The class then has no information about membership, even if the class shares of members and non-members differ. A
    class with only members or only non-members has weight zero.

    Raises:
        ValueError: if no class has both.
    """
    counts = np.zeros((labels.max() + 1, 2))
    np.add.at(counts, (labels, members.astype(int)), 1)
    total = counts.sum(axis=1)[labels]
    own = counts[labels, members.astype(int)]
    if (own == total).all():
        raise UserError("no class has both members and non-members, so their classes alone separate them")
    return np.where(own < total, total / 2 / own, 0.0)
