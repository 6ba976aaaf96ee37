from __future__ import annotations

import numpy as np
import pytest

from advunlearn.data.digits import Digits
from advunlearn.data.forget.random import Random
from advunlearn.data.requests import new_rows, requests
from advunlearn.data.splits import Splits, make_splits
from advunlearn.options import UserError

POOL = Digits().load()
SPLITS = make_splits(POOL, Digits(train_size=500), Random(), seed=0)


def after(count: int, seed: int = 0) -> list[Splits]:
    return requests(SPLITS, POOL.labels, count, np.random.default_rng(seed))


def test_each_request_adds_to_the_forget_set_until_it_is_whole() -> None:
    found = after(3)
    new = new_rows(found)
    assert [len(rows) for rows in new] == [34, 33, 33]
    assert [len(each.forget) for each in found] == [34, 67, 100]
    assert sorted(np.concatenate(new)) == SPLITS.forget.tolist()
    for each in found:
        assert (each.train == SPLITS.train).all()
        assert all((getattr(each, part) == getattr(SPLITS, part)).all() for part in ("audit", "selection", "test"))


def test_one_request_is_the_whole_forget_set() -> None:
    (only,) = after(1)
    assert all((getattr(only, part) == rows).all() for part, rows in vars(SPLITS).items())


def test_every_request_has_its_share_of_every_class() -> None:
    for rows in new_rows(after(4)):
        whole = np.bincount(POOL.labels[SPLITS.forget], minlength=10)
        assert np.abs(np.bincount(POOL.labels[rows], minlength=10) - whole / 4).max() <= 1


def test_requests_are_random_and_repeat() -> None:
    first, again, other = (new_rows(after(2, seed))[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_more_requests_than_examples_are_refused() -> None:
    assert len(after(100)) == 100
    with pytest.raises(UserError, match=r"^forget\.rounds=101 is more than the 100 examples of the forget set$"):
        after(101)
