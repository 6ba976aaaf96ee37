"""Members and non-members that differ only in membership: of the same classes, in the same shares."""

from __future__ import annotations

import numpy as np

from advunlearn.data.by_class import positions_by_class, rounded
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows

Counts = Rows  # how many examples of each class


def comparable(members: Rows, others: Rows) -> tuple[Rows, Rows, str]:
    """Return the positions of the members and of the non-members to compare, sorted, and a remark, empty by default.

    Examples of a class with only members or only non-members are left out: the class alone would separate them. The
    class would also help if its shares of members and of non-members differed. If the shares differ by more than the
    rounding of a stratified split, further examples are left out until they agree, evenly within a class. The remark
    counts them.

    Args:
        members, others: labels (n,) and (m,), whole numbers from 0 on.

    Raises:
        UserError: if no class has both.
    """
    classes = max(members.max(initial=0), others.max(initial=0)) + 1
    counts = [np.bincount(labels, minlength=classes) for labels in (members, others)]
    shared = (counts[0] > 0) & (counts[1] > 0)
    if not shared.any():
        raise UserError("the test set holds no example of the forget set's classes, so no attack can be run")
    counts = [np.where(shared, count, 0) for count in counts]
    kept = _matched(*counts)
    inside, outside = (_evenly(labels, each) for labels, each in zip((members, others), kept, strict=True))
    out = [int(before.sum() - after.sum()) for before, after in zip(counts, kept, strict=True)]
    remark = (
        "the classes have different shares of the forget set and of the test set: "
        f"{out[0]} of {counts[0].sum()} forget and {out[1]} of {counts[1].sum()} test examples are left out"
    )
    return inside, outside, remark if any(out) else ""


def _matched(inside: Counts, outside: Counts) -> tuple[Counts, Counts]:
    """Return how many members and non-members of each class to keep, with the same ratio for all classes."""
    ratio = outside.sum() / inside.sum()
    if (np.abs(inside - outside / ratio) <= 1 + 1 / ratio).all():  # within one member and one non-member
        return inside, outside
    shared = inside > 0
    x, y = inside[shared], outside[shared]

    def information(ratio: float) -> float:
        """Return 1 / (1/n + 1/m) for the n and m remaining examples: the variance of an AUC decreases with it."""
        return float(np.minimum(x, y / ratio).sum() * ratio / (1 + ratio))

    best = max(np.unique(y / x), key=information)
    n, m = rounded(np.minimum(x, y / best)), rounded(np.minimum(y, best * x))
    both = (n > 0) & (m > 0)
    kept = np.zeros((2, len(inside)), np.int64)
    kept[:, shared] = np.where(both, n, 0), np.where(both, m, 0)
    return kept[0], kept[1]


def _evenly(labels: Rows, counts: Counts) -> Rows:
    """Return the positions, sorted, of so many examples of each class, evenly spaced among those of the class."""
    chosen = [
        own[np.linspace(0, len(own) - 1, counts[each]).astype(np.int64)]
        for each, own in positions_by_class(labels).items()
    ]
    return np.sort(np.concatenate(chosen))
