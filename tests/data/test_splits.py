from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.digits import Digits
from advunlearn.data.forget.class_ import Class
from advunlearn.data.forget.indices import Indices
from advunlearn.data.forget.random import Random
from advunlearn.data.forget.scenario import Forget
from advunlearn.data.splits import Splits, check_sizes, make_splits

POOL = Digits().load()


def pool_with_a_test_part() -> Pool:
    return Pool(POOL.inputs, POOL.labels, 1200, 10)


@pytest.mark.parametrize("forget", [Random(), Random(fraction=0.5), Class(classes=[3, 7])])
@pytest.mark.parametrize("train_size", [100, 250, 1000])
def test_splits_are_disjoint_and_have_the_sizes_asked_for(forget: Forget, train_size: int) -> None:
    dataset = Digits(train_size=train_size, audit_fraction=0.2, selection_fraction=0.3)
    splits = make_splits(POOL, dataset, forget, seed=0)
    held_out = 1797 - train_size
    assert len(splits.train) == train_size
    assert len(splits.audit) == int(0.2 * held_out)
    assert len(splits.selection) == int(0.3 * held_out)
    everything = np.concatenate(list(vars(splits).values()))
    assert len(np.unique(everything)) == len(everything) == 1797


def test_splits_repeat_and_change_with_the_seed() -> None:
    first, again, other = (make_splits(POOL, Digits(), Random(), seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert not np.array_equal(first.train, other.train)


def test_every_set_has_its_share_of_every_class() -> None:
    splits = make_splits(POOL, Digits(), Random(), seed=0)
    for rows in vars(splits).values():
        shares = np.bincount(POOL.labels[rows], minlength=10) / len(rows)
        assert np.abs(shares - 0.1).max() < 0.03


def test_a_test_part_is_what_is_held_out() -> None:
    splits = make_splits(pool_with_a_test_part(), Dataset(), Random(), seed=0)
    assert (splits.train == np.arange(1200)).all()
    assert min(splits.audit[0], splits.selection[0], splits.test[0]) == 1200


def test_without_a_test_part_or_a_size_three_tenths_are_held_out() -> None:
    splits = make_splits(POOL, Digits(train_size=None), Random(), seed=0)
    assert len(splits.train) == 1797 - 540


def test_the_forget_scenario_moves_no_held_out_set() -> None:
    a, b = (make_splits(POOL, Digits(), forget, 0) for forget in (Random(), Class(classes=[2])))
    assert all((getattr(a, part) == getattr(b, part)).all() for part in ("train", "audit", "selection", "test"))


def test_a_fraction_is_met_exactly_and_class_by_class() -> None:
    rows, labels = np.arange(100, 137), np.repeat([0, 1, 2], [5, 12, 20])
    for fraction in (0.1, 0.33, 0.5, 0.9):
        chosen = Random(fraction=fraction).select(rows, labels, np.random.default_rng(0))
        assert len(chosen) == round(fraction * 37)
        counts = np.bincount(labels[np.isin(rows, chosen)], minlength=3)
        assert np.abs(counts - fraction * np.array([5, 12, 20])).max() < 1


def test_a_class_is_forgotten_whole() -> None:
    splits = make_splits(POOL, Digits(), Class(classes=[3, 7]), seed=0)
    assert set(POOL.labels[splits.forget]) == {3, 7}
    assert not set(POOL.labels[splits.retain]) & {3, 7}


@pytest.mark.parametrize("pool", [POOL, pool_with_a_test_part()])
def test_named_rows_are_trained_on_and_forgotten(tmp_path: Path, pool: Pool) -> None:
    (tmp_path / "rows.txt").write_text("# to forget\n\n5\n 17 \n1199\n")
    forget = Indices(path=str(tmp_path / "rows.txt"))
    plain = make_splits(pool, Digits(), Random(), seed=0)
    splits = make_splits(pool, Digits(), forget, seed=0)
    assert splits.forget.tolist() == [5, 17, 1199]
    assert [len(rows) for rows in vars(splits).values()][2:] == [len(rows) for rows in vars(plain).values()][2:]
    assert len(splits.train) == 250
    assert len(np.setdiff1d(splits.train, plain.train)) <= 3


def test_named_rows_of_a_sorted_dataset_cost_no_class_its_examples(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 500)
    images = np.zeros((5000, 2, 2, 1), np.uint8)
    sorted_pool = Pool(images, labels, 5000, 10)
    rows = np.random.default_rng(0).choice(5000, 300, replace=False)
    (tmp_path / "rows.txt").write_text("\n".join(map(str, rows)))
    dataset = Dataset(train_size=1000)
    splits = make_splits(sorted_pool, dataset, Indices(path=str(tmp_path / "rows.txt")), seed=0)
    without = make_splits(sorted_pool, dataset, Random(), seed=0)
    for part in ("train", "audit", "selection", "test"):
        now, before = (np.bincount(labels[getattr(each, part)], minlength=10) for each in (splits, without))
        assert now.tolist() == before.tolist(), part


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3\nfour\n", "line 2 must be a row number, got four"),
        ("3\n-1\n", "line 2 must be a row number, got -1"),
        ("1.5\n", "line 1 must be a row number, got 1.5"),
        ("3\n1797\n", "line 2 must be a row from 0 to 1796, got 1797"),
        ("3\n#\n3\n", "line 3 names row 3 again, which line 1 did"),
        ("# nothing\n", "names no row"),
        ("\n".join(map(str, range(250))), "names 250 rows to forget of 250 training examples: none would be left"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.txt").write_text(text)
    (problem,) = check_sizes(Digits().info(), Digits(), Indices(path=str(tmp_path / "rows.txt")))
    assert problem.startswith("forget.path=")
    assert said in problem


@pytest.mark.parametrize(
    ("dataset", "forget", "said"),
    [
        (Digits(train_size=2000), Random(), "dataset.train_size must be at most 1797"),
        (Digits(train_size=1795), Random(), "dataset.train_size=1795 leaves 2 held-out examples"),
        (Digits(train_size=5), Random(), "dataset.train_size must be at least 10"),
        (Digits(train_size=10), Random(fraction=0.01), "forget.fraction=0.01 of 10 training examples is 0"),
        (Digits(), Class(classes=[10, 3]), "forget.classes must be among the dataset's classes 0..9, got 10"),
        (Digits(), Class(classes=list(range(10))), "forget.classes must leave a class"),
        (Digits(), Class(classes=[]), "forget.classes must name at least one class"),
    ],
)
def test_what_does_not_fit_is_said(dataset: Dataset, forget: Forget, said: str) -> None:
    (problem,) = check_sizes(Digits().info(), dataset, forget)
    assert problem.startswith(said)
    with pytest.raises(ValueError, match=r"^(dataset|forget)\."):
        make_splits(POOL, dataset, forget, seed=0)


def test_splits_come_back_from_their_file(tmp_path: Path) -> None:
    splits = make_splits(POOL, Digits(), Random(), seed=0)
    splits.save(tmp_path / "splits.npz")
    loaded = Splits.load(tmp_path / "splits.npz")
    assert all((a == b).all() for a, b in zip(vars(splits).values(), vars(loaded).values(), strict=True))


def test_overlapping_or_empty_splits_are_refused() -> None:
    rows = [np.array([number]) for number in range(5)]
    with pytest.raises(ValueError, match="overlap"):
        Splits(*rows[:4], rows[0])
    with pytest.raises(ValueError, match="the forget set is empty"):
        Splits(rows[0], rows[1][:0], rows[2], rows[3], rows[4])


@pytest.mark.parametrize(
    "counts",
    [[1, *[60] * 9], [1, 1, 2, 300, 100], [30] * 10, [5] * 100, [1] * 60 + [40]],
    ids=["one member", "rare classes", "even", "many small classes", "many of one member"],
)
def test_a_rare_class_does_not_unbalance_the_others(counts: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    pool = Pool(images, labels, len(labels), len(counts))
    splits = make_splits(pool, Dataset(), Random(), seed=0)
    parts = [splits.train, splits.audit, splits.selection, splits.test]
    for rows in parts:
        found = np.bincount(labels[rows], minlength=len(counts))
        # Within one row at each of up to three draws; by chance, ten classes of 60 are up to 8 rows off.
        assert np.abs(found - len(rows) * np.array(counts) / len(labels)).max() <= 2
    assert len(np.unique(np.concatenate(parts))) == len(labels)
