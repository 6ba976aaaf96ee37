"""Inputs of any kind: the same batches from memory, from disk and by name, of the types that networks take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advunlearn.data.dataset import Dataset, DatasetInfo, Pool, channel_statistics
from advunlearn.data.digits import Digits
from advunlearn.data.examples import Examples, examples_of
from advunlearn.data.inputs import OnDisk, held, same, shape_in_words
from advunlearn.options import OptionError, UserError

CPU = torch.device("cpu")
LABELS = np.arange(40) % 4
TRAIN = np.arange(30)


def examples(inputs: Any, *, images: bool, dataset: Dataset | None = None) -> Examples:
    pool = Pool(inputs, LABELS, 40, 4, images)
    return examples_of(pool, dataset or Dataset(), TRAIN, CPU, channels_last=True)


def on_disk(folder: Path, array: np.ndarray) -> np.ndarray:
    np.save(folder / "images.npy", array)
    return np.load(folder / "images.npy", mmap_mode="r")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_images_on_disk_give_the_batches_of_images_in_memory(
    tmp_path: Path, images: np.ndarray, kind: type[Any]
) -> None:
    augmented = Dataset(augment="flip_crop", crop=2)
    memory = examples(images.astype(kind), images=True, dataset=augmented)
    disk = examples(on_disk(tmp_path, images.astype(kind)), images=True, dataset=augmented)
    assert isinstance(disk.inputs, OnDisk)
    assert disk.shape == memory.shape == (3, 6, 5)
    order, augment = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    for batch in memory.shuffled(7, order, augment):
        for one, other in zip(memory.training_batch(batch), disk.training_batch(batch), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6 if kind is np.float64 else 0)
            assert one.dtype == other.dtype
    some = np.array([31, 4, 4, 17])
    one, other = (each.subset(some).followed_by(each.subset(TRAIN)) for each in (memory, disk))
    assert len(one) == len(other) == 34
    for (mine, labels), (theirs, as_well) in zip(one.batches(8), other.batches(8), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        assert torch.equal(labels, as_well)


def test_a_file_that_has_become_shorter_is_an_error(tmp_path: Path, images: np.ndarray) -> None:
    disk = examples(on_disk(tmp_path, images), images=True)
    with (tmp_path / "images.npy").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(OSError, match="has become shorter"):
        list(disk.batches())


def test_an_array_on_disk_that_fits_the_device_is_moved_there(tmp_path: Path, images: np.ndarray) -> None:
    stored = on_disk(tmp_path, images)
    assert isinstance(held(stored, torch.device("meta"), images=True, room=stored.nbytes), torch.Tensor)
    assert isinstance(held(stored, torch.device("meta"), images=True, room=stored.nbytes - 1), OnDisk)


def test_statistics_are_those_of_the_training_rows(images: np.ndarray) -> None:
    mean, std = channel_statistics(images, TRAIN)
    np.testing.assert_allclose(mean, images[:30].mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, images[:30].std((0, 1, 2)), rtol=1e-6)
    others = images.copy()
    others[30:] = 0  # examples that the original is not trained on
    one, other = (examples(each, images=True).subset(TRAIN).prepared() for each in (images, others))
    assert torch.equal(one, other)


def test_a_constant_channel_is_left_alone() -> None:
    assert channel_statistics(np.full((40, 2, 2, 1), 7, np.uint8), TRAIN)[1].tolist() == [1.0]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (np.random.default_rng(0).normal(size=(40, 9)), torch.float32),
        (np.random.default_rng(0).normal(size=(40, 2, 3, 4, 5)).astype(np.float16), torch.float32),
        (np.arange(40), torch.int64),
        (np.ones((40, 12), np.int32), torch.int64),
        (np.ones((40, 12), np.uint8), torch.int64),
        (np.ones((40, 12), bool), torch.bool),
    ],
    ids=["features", "float16 of five axes", "one number", "tokens", "small tokens", "flags"],
)
def test_inputs_that_are_not_images_are_left_as_they_are(inputs: np.ndarray, expected: torch.dtype) -> None:
    whole = examples(inputs, images=False)
    batch = whole.prepared()
    assert batch.dtype == expected
    np.testing.assert_array_equal(batch.numpy(), inputs.astype(batch.numpy().dtype))
    assert whole.shape == inputs.shape[1:]


def test_named_inputs_go_together() -> None:
    inputs = {"ids": np.arange(400).reshape(40, 10), "mask": np.arange(40)[:, None] > np.arange(10)}
    whole = examples(inputs, images=False)
    assert whole.shape == {"ids": (10,), "mask": (10,)}
    part = whole.subset(np.array([3, 1])).followed_by(whole.subset(np.array([7])))
    for row, place in ((3, 0), (1, 1), (7, 2)):
        assert part.prepared()["ids"][place].tolist() == inputs["ids"][row].tolist()
        assert part.prepared()["mask"][place].tolist() == inputs["mask"][row].tolist()
    order = torch.Generator().manual_seed(0)
    draws = torch.stack([whole.draw(4, order, order) for _ in range(2)], 1)  # of two models at once
    batch, labels = whole.training_batch(whole.cut(draws, 4)[0])
    assert batch["ids"].shape == (2, 4, 10)
    assert torch.equal(labels, batch["ids"][..., 0] // 10 % 4)
    assert same(whole.inputs, whole.subset(np.arange(40)).inputs)
    assert not same(whole.inputs, whole.subset(np.arange(40)[::-1].copy()).inputs)


def own_scale(batch: torch.Tensor) -> torch.Tensor:
    """A preprocessing function of the user."""
    return torch.cat([batch, batch**2], 1)


def test_own_preprocessing_follows_the_normalisation(images: np.ndarray) -> None:
    transform = f"{__name__}:own_scale"
    dataset = Dataset(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3], transform=transform)
    whole = examples(images, images=True, dataset=dataset)
    plain = (images.transpose(0, 3, 1, 2) / 255 - np.reshape([0.5, 0.4, 0.3], (3, 1, 1))) / np.reshape(
        [0.1, 0.2, 0.3], (3, 1, 1)
    )
    np.testing.assert_allclose(whole.prepared().numpy(), np.concatenate([plain, plain**2], 1), rtol=1e-4, atol=1e-5)
    assert whole.shape == (6, 6, 5)
    assert dataset.identity() != Dataset(transform=None).identity()
    features = examples(np.ones((40, 2)), images=False, dataset=Dataset(mean=[1.0, 0.0], std=[1.0, 0.5]))
    assert features.prepared()[0].tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mean": [0.5]}, "mean and std must have one number per channel each, got [0.5] and None"),
        ({"mean": [0.5, 0.5], "std": [1.0]}, "mean and std must have one number per channel each"),
        ({"mean": [0.5], "std": [0.0]}, "std must be greater than 0, got [0.0]"),
    ],
)
def test_a_normalisation_that_cannot_be_done_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError) as caught:
        Digits(**options)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("inputs", "images", "dataset", "expected"),
    [
        (np.ones((40, 4, 4, 3), np.uint8), True, Dataset(mean=[0.1, 0.2], std=[1.0, 1.0]), "must have 1 or 3 numbers"),
        (np.ones((40, 5)), False, Dataset(mean=[0.1, 0.2], std=[1.0, 1.0]), "must have 1 or 5 numbers, got 2"),
        ({"a": np.ones((40, 5))}, False, Dataset(mean=[0.1], std=[1.0]), "need inputs in one array, got several"),
        (np.ones((40, 5)), False, Dataset(augment="flip_crop"), "dataset.augment=flip_crop needs images"),
        (np.ones((40, 5)), False, Dataset(transform="none.such:f"), "transform=none.such:f: cannot be imported"),
        (np.ones((40, 5)), False, Dataset(transform="math:pi"), "transform must be the import path of a function"),
    ],
)
def test_options_that_do_not_fit_the_inputs_are_refused(
    inputs: Any, images: bool, dataset: Dataset, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        examples(inputs, images=images, dataset=dataset)
    assert expected in str(caught.value)


def test_shapes_and_memory_in_words() -> None:
    info = DatasetInfo(70, 30, (0, 1), {"ids": (64,), "mask": (64,)}, images=False, whole_numbers=True)
    assert shape_in_words(info.shape) == "ids 64, mask 64"
    assert info.examples_in_words == "examples of ids 64, mask 64"
    assert info.memory == 100 * 128
    assert DatasetInfo(10, 0, (0, 1), (3, 8, 6)).examples_in_words == "images of 8x6x3"
    assert DatasetInfo(10, 0, (0, 1), (3, 8, 6), example_bytes=0).memory == 0
    assert shape_in_words(()) == "one number"
