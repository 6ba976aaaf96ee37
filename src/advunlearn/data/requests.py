"""A forget set in several requests, one after the other."""

from __future__ import annotations

import numpy as np

from advunlearn.data.splits import Splits
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows


def requests(splits: Splits, labels: Rows, count: int, rng: np.random.Generator) -> list[Splits]:
    """Return the splits after each request: forget sets that grow in `count` steps, the last one that of `splits`.

    The examples of each request are random, of each class a share, up to one example.

    Args:
        splits: of the run.
        labels: (n,) of all rows of the pool.
        count: number of requests.
        rng: the only source of random numbers.

    Raises:
        UserError: if there are more requests than examples.
    """
    if count > len(splits.forget):
        raise UserError(f"forget.rounds={count} is more than the {len(splits.forget)} examples of the forget set")
    drawn = rng.permutation(splits.forget)
    in_order = drawn[np.argsort(labels[drawn], kind="stable")]
    forgotten = [np.sort(np.concatenate([in_order[i::count] for i in range(last + 1)])) for last in range(count)]
    held_out = (splits.audit, splits.selection, splits.test)
    return [Splits(np.setdiff1d(splits.train, rows), rows, *held_out) for rows in forgotten]


def new_rows(after: list[Splits]) -> list[Rows]:
    """Return the rows of each request alone, given the splits after each."""
    before = [after[0].forget[:0], *(each.forget for each in after)]
    return [np.setdiff1d(each.forget, known) for each, known in zip(after, before, strict=False)]
