"""Forget sets by difficulty: which rows each scenario chooses, and which labels it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.digits import Digits
from advunlearn.data.forget.memorized import Memorized
from advunlearn.data.forget.mislabelled import Mislabelled
from advunlearn.data.forget.outliers import Outliers, distances, standardised
from advunlearn.data.forget.ranked import Ranked
from advunlearn.data.forget.scenario import Forget
from advunlearn.data.forget.subclass import Subclass
from advunlearn.data.forget.unmemorized import Unmemorized
from advunlearn.data.splits import check_sizes, make_splits
from advunlearn.options import OptionError, UserError

LABELS = np.repeat([0, 1, 2], [10, 20, 30])
POOL = Pool(np.zeros((60, 2), np.float32), LABELS, 60, 3, images=False)
DIGITS = Digits().load()


def chosen(forget: Forget, pool: Pool = POOL, difficulty: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(len(pool.labels))
    return forget.forgotten(rows, pool, np.random.default_rng(0), difficulty)


def test_memorized_takes_the_most_difficult_of_each_class_and_unmemorized_the_least() -> None:
    difficulty = np.random.default_rng(1).permutation(60).astype(float)
    for forget, sign in ((Memorized(fraction=0.1), -1), (Unmemorized(fraction=0.1), 1)):
        expected = [np.flatnonzero(each == LABELS) for each in range(3)]
        expected = [own[np.argsort(sign * difficulty[own])][: len(own) // 10] for own in expected]
        assert chosen(forget, difficulty=difficulty).tolist() == sorted(np.concatenate(expected))


def test_without_shares_of_classes_the_most_difficult_of_all_are_taken() -> None:
    difficulty = np.arange(60.0)
    assert chosen(Memorized(fraction=0.25, per_class=False), difficulty=difficulty).tolist() == list(range(45, 60))
    assert chosen(Unmemorized(fraction=0.25, per_class=False), difficulty=difficulty).tolist() == list(range(15))


@pytest.mark.parametrize("forget", [Memorized(fraction=0.1), Unmemorized(fraction=0.1)])
def test_the_stand_in_has_the_size_and_the_classes_of_the_final_forget_set(forget: Forget) -> None:
    before, after = chosen(forget), chosen(forget, difficulty=np.arange(60.0))
    assert np.bincount(LABELS[before]).tolist() == np.bincount(LABELS[after]).tolist() == [1, 2, 3]


def test_rows_outside_the_training_set_have_no_influence() -> None:
    rows, difficulty = np.arange(0, 60, 2), np.where(np.arange(60) % 2, np.nan, np.arange(60.0))
    found = Memorized(fraction=0.2).forgotten(rows, POOL, np.random.default_rng(0), difficulty)
    assert found.tolist() == [8, 26, 28, 54, 56, 58]


def test_equal_scores_are_chosen_at_random() -> None:
    first, second = (
        Memorized(fraction=0.1).forgotten(np.arange(60), POOL, np.random.default_rng(seed), np.zeros(60))
        for seed in (0, 1)
    )
    assert first.tolist() != second.tolist()


def test_an_odd_number_of_models_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^models must be an even whole number, got 3 \(try models=16\)$"):
        Memorized(models=3)


@pytest.mark.parametrize("forget", [Memorized(fraction=0.001), Outliers(fraction=0.001)])
def test_a_fraction_of_nothing_is_refused(forget: Ranked) -> None:
    (problem,) = forget.problems(POOL.info, 60)
    assert problem.startswith("fraction=0.001 of 60 training examples is 0")


def test_a_distance_is_euclidean_and_from_the_mean() -> None:
    inputs = np.array([[0, 0], [6, 0], [0, 9]], np.uint8)  # their mean is (2, 3)
    assert distances(inputs).tolist() == pytest.approx([13**0.5, 5.0, 40**0.5])


def test_features_are_standardised_and_a_missing_one_counts_as_the_mean() -> None:
    features = np.array([[1, 5, np.nan], [3, 5, 20], [np.nan, 5, 40]], np.float32)
    assert standardised(features).tolist() == [[-1, 0, 0], [1, 0, -1], [0, 0, 1]]
    assert standardised(np.array([[2], [4]])).tolist() == [[-1], [1]]


def test_outliers_are_the_planted_ones() -> None:
    planted = np.array([3, 15, 25, 35, 45, 55])
    images = np.random.default_rng(0).integers(100, 110, (60, 4, 4, 1)).astype(np.uint8)
    images[planted] += 100
    assert chosen(Outliers(fraction=0.1), Pool(images, LABELS, 60, 3)).tolist() == planted.tolist()


def test_the_unit_of_a_feature_does_not_change_which_examples_are_outliers() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 3)).astype(np.float32)
    inputs[:, 2] = 7  # a constant feature
    scaled = inputs * np.array([1, 1000, 1], np.float32)
    first, second = (chosen(Outliers(), replace(POOL, inputs=each)).tolist() for each in (inputs, scaled))
    assert first == second


@pytest.mark.parametrize(
    "info",
    [
        DatasetInfo(60, 0, (0, 1), (5,), images=False, whole_numbers=True),
        DatasetInfo(60, 0, (0, 1), {"ids": (5,), "mask": (5,)}, images=False),
    ],
    ids=["tokens", "several arrays"],
)
def test_inputs_without_a_distance_have_no_outliers(info: DatasetInfo) -> None:
    (problem,) = Outliers().problems(info, 50)
    assert "which has no meaning for this dataset's inputs" in problem


def test_every_wrong_label_is_wrong_and_of_a_class_of_the_training_set() -> None:
    labels = np.tile([0, 2, 5], 100)
    found = Mislabelled().relabelled(labels, np.array([0, 2, 5]), np.random.default_rng(0))
    assert (found != labels).all()
    counts = {(old, new): int(((labels == old) & (found == new)).sum()) for old in (0, 2, 5) for new in (0, 2, 5)}
    assert sum(counts.values()) == 300
    assert all(30 <= count <= 70 for (old, new), count in counts.items() if old != new)


def fine(tmp_path: Path, numbers: np.ndarray, name: str = "fine.npy") -> str:
    np.save(tmp_path / name, numbers)
    return str(tmp_path / name)


def test_subclasses_are_forgotten_whole(tmp_path: Path) -> None:
    numbers = np.arange(1797) % 20
    splits = make_splits(DIGITS, Digits(), Subclass(path=fine(tmp_path, numbers), subclasses=[3, 7]), seed=0)
    assert set(numbers[splits.forget]) == {3, 7}
    assert not set(numbers[splits.retain]) & {3, 7}


def test_subclasses_may_be_an_array_of_an_npz_file(tmp_path: Path) -> None:
    numbers = np.arange(60) // 5
    np.savez(tmp_path / "mine.npz", inputs=np.zeros((60, 2)), labels=LABELS, kinds=numbers)
    forget = Subclass(path=str(tmp_path / "mine.npz"), array="kinds", subclasses=[11])
    assert chosen(forget).tolist() == [55, 56, 57, 58, 59]


def misfit(tmp_path: Path, kind: str) -> Subclass:
    (tmp_path / "text.npy").write_text("1 2 3")
    np.savez(tmp_path / "other.npz", labels=LABELS)
    forgets = {
        "no path": Subclass(),
        "missing": Subclass(path="nowhere.npy"),
        "text": Subclass(path=str(tmp_path / "text.npy")),
        "no array": Subclass(path=str(tmp_path / "other.npz")),
        "floats": Subclass(path=fine(tmp_path, np.zeros(60))),
        "short": Subclass(path=fine(tmp_path, np.zeros(59, int), "short.npy")),
        "unknown": Subclass(path=fine(tmp_path, np.zeros(60, int), "zeros.npy"), subclasses=[0, 4]),
        "none": Subclass(path=fine(tmp_path, np.zeros(60, int), "none.npy"), subclasses=[]),
    }
    return forgets[kind]


MISFITS = {
    "no path": "forget.path must name a .npy or .npz file",
    "missing": "forget.path=nowhere.npy cannot be read: No such file or directory",
    "text": "damaged or not a file of arrays",
    "no array": "forget.array=subclasses is not in",
    "floats": "must hold whole numbers (n,), got float64 (60,)",
    "short": "must have one number for each of the 60 rows of the training part, got 59",
    "unknown": "which does not hold 4",
    "none": "forget.subclasses must name at least one",
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_file_of_subclasses_that_does_not_fit_is_one_line(tmp_path: Path, kind: str) -> None:
    forget = misfit(tmp_path, kind)
    (problem,) = check_sizes(POOL.info, Dataset(train_size=40), forget)
    assert problem.startswith("forget.")
    assert MISFITS[kind] in problem
    with pytest.raises(UserError):
        make_splits(POOL, Dataset(train_size=40), forget, seed=0)
