"""Inputs of any kind in an npz file; `test_datasets.py` has the images of uint8, `test_hostile_files.py` bad bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from advunlearn.config.compose import experiment_from
from advunlearn.data.examples import Examples, examples_of
from advunlearn.data.forget.random import Random
from advunlearn.data.npz import Npz
from advunlearn.data.splits import make_splits
from advunlearn.options import ConfigError, UserError
from advunlearn.stages.data import trainer_of
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer

RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2


def dataset_of(folder: Path, arrays: dict[str, np.ndarray], **options: object) -> Npz:
    np.savez(folder / "mine.npz", **arrays)
    return Npz(path=str(folder / "mine.npz"), **options)  # type: ignore[arg-type]


def training_examples(dataset: Npz) -> Examples:
    pool = dataset.load()
    train = make_splits(pool, dataset, Random(), 0).train
    whole = examples_of(pool, dataset, train, torch.device("cpu"), channels_last=False)
    return whole.subset(train)


def test_features_are_left_as_they_are(tmp_path: Path) -> None:
    inputs = RNG.normal(5, 3, (40, 6))
    dataset = dataset_of(tmp_path, {"inputs": inputs, "labels": LABELS})
    info, examples = dataset.info(), training_examples(dataset)
    assert (info.train, info.test, info.shape, info.images, info.whole_numbers) == (40, 0, (6,), False, False)
    assert dataset.load().inputs.tolist() == inputs.astype(np.float32).tolist()
    assert examples.shape == (6,)
    assert examples.prepared().dtype == torch.float32
    one = dataset_of(tmp_path, {"inputs": inputs[:, 0], "labels": LABELS})
    assert one.info().shape == (1,)
    assert one.load().inputs.shape == (40, 1)


def test_features_with_statistics_of_ones_own(tmp_path: Path) -> None:
    inputs = RNG.normal(5, 3, (40, 2))
    dataset = dataset_of(tmp_path, {"inputs": inputs, "labels": LABELS}, mean=[5.0, 4.0], std=[3.0, 2.0])
    pool = dataset.load()
    examples = examples_of(pool, dataset, np.arange(20), torch.device("cpu"), channels_last=False)
    np.testing.assert_allclose(examples.prepared(), (inputs - [5, 4]) / [3, 2], rtol=1e-5, atol=1e-6)


def test_tokens_are_whole_numbers_for_the_network(tmp_path: Path) -> None:
    tokens = RNG.integers(0, 100, (40, 12), dtype=np.uint16)
    dataset = dataset_of(tmp_path, {"inputs": tokens, "labels": LABELS})
    assert dataset.info().whole_numbers
    examples = training_examples(dataset)
    assert examples.prepared().dtype == torch.int64
    assert not examples.images


def test_several_inputs_have_names(tmp_path: Path) -> None:
    arrays = {"inputs.ids": RNG.integers(0, 9, (40, 5)), "inputs.mask": RNG.random((40, 5)) < 0.5, "labels": LABELS}
    test = {f"test_{name}": array[:8] for name, array in arrays.items()}
    dataset = dataset_of(tmp_path, arrays | test)
    info, pool = dataset.info(), dataset.load()
    assert info.shape == {"ids": (5,), "mask": (5,)}
    assert (info.train, info.test) == (40, 8)
    assert (pool.inputs["ids"][40:] == arrays["inputs.ids"][:8]).all()
    (batch, labels), *_ = training_examples(dataset).batches(7)
    assert {name: (each.dtype, each.shape) for name, each in batch.items()} == {
        "ids": (torch.int64, (7, 5)),
        "mask": (torch.bool, (7, 5)),
    }
    assert len(labels) == 7
    with pytest.raises(UserError, match="need inputs in one array, got several by name"):
        examples_of(pool, Npz(mean=[0.0], std=[1.0]), np.arange(9), torch.device("cpu"), channels_last=False)


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (
            ["inputs"],
            ["mean=[0,0]", "std=[1,1]"],
            "mean and std must have 1 or 3 numbers, got 2",
        ),
        (
            ["inputs.a", "inputs.b"],
            ["mean=[0]", "std=[1]"],
            "mean and std need inputs in one array, got several by name",
        ),
        (
            ["inputs"],
            ["augment=flip_crop"],
            "augment=flip_crop needs images (try dataset.augment=none)",
        ),
    ],
)
def test_options_are_checked_against_the_inputs_before_loading(
    tmp_path: Path, names: list[str], options: list[str], said: str
) -> None:
    dataset = dataset_of(tmp_path, {name: np.zeros((40, 3)) for name in names} | {"labels": LABELS})
    with pytest.raises(ConfigError) as caught:
        experiment_from(
            ["dataset=npz", f"dataset.path={dataset.path}", "device=cpu", *(f"dataset.{each}" for each in options)]
        )
    assert f"dataset.{said}" in caught.value.problems


def test_whole_numbers_that_the_network_does_not_take_are_said_with_a_remedy(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, {"inputs": RNG.integers(0, 9, (40, 3)), "labels": LABELS})
    words = ["dataset=npz", f"dataset.path={dataset.path}", "model=mlp", "device=cpu"]

    def trainer(*remedy: str) -> Trainer:
        experiment = experiment_from([*words, *remedy])
        return trainer_of(experiment, experiment.dataset.load(), np.arange(20), Store())

    with pytest.raises(UserError, match=r"^model: MLP fails on inputs of 3, which are whole numbers \(dataset.mean"):
        trainer()
    assert trainer("dataset.mean=[0]", "dataset.std=[1]").examples.prepared().dtype == torch.float32


def test_images_may_be_fractions(tmp_path: Path) -> None:
    images = RNG.random((40, 6, 5, 3))
    dataset = dataset_of(tmp_path, {"images": images.astype(">f8"), "labels": LABELS}, augment="flip_crop")
    info, examples = dataset.info(), training_examples(dataset)
    assert (info.shape, info.images) == ((3, 6, 5), True)
    assert examples.shape == (3, 6, 5)
    inputs = examples.prepared()
    assert inputs.mean(dim=(0, 2, 3)).abs().max() < 1e-6
    assert torch.allclose(inputs.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_augmentation_is_for_images(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, {"inputs": np.zeros((40, 3)), "labels": LABELS}, augment="flip_crop")
    with pytest.raises(UserError, match=r"^dataset.augment=flip_crop needs images \(try dataset.augment=none\)$"):
        training_examples(dataset)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", ["inputs", "inputs.x", "images"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, name: str, value: float) -> None:
    array = RNG.random((40, 4, 4))
    array[[7, 9], 0, 1] = value
    dataset = dataset_of(tmp_path, {name: array, "labels": LABELS})
    with pytest.raises(UserError, match=rf"^dataset.path=.*: {name} must be finite: NaN .* in 2 rows, .* row 7$"):
        dataset.load()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "an array images or inputs is missing; it holds labels"),
        ({"inputs": np.zeros((40, 2)), "images": np.zeros((40, 2, 2))}, "either images, or inputs, or arrays such as"),
        ({"inputs.x": np.zeros(40), "inputs": np.zeros(40)}, "either images, or inputs, or arrays such as inputs.ids"),
        ({"inputs": np.zeros(40, complex)}, "inputs must be numbers (n, ...), got complex128 (40,)"),
        ({"inputs": np.array(["a"] * 40)}, "inputs must be numbers (n, ...), got <U1 (40,)"),
        ({"inputs": np.zeros((40, 0))}, "inputs must be numbers (n, ...), got float64 (40, 0)"),
        ({"inputs": np.zeros((40, 2)), "test_inputs": np.zeros((4, 2))}, "the array test_labels is missing"),
        (
            {"inputs": np.zeros((40, 2)), "test_inputs": np.zeros((4, 3)), "test_labels": LABELS[:4]},
            "test_inputs must have the size of inputs",
        ),
        (
            {"inputs": np.zeros((40, 2)), "test_inputs": np.zeros((4, 2), int), "test_labels": LABELS[:4]},
            "test_inputs must be of the type of inputs, float64, got int64",
        ),
        ({"inputs.a": np.zeros((40, 2)), "inputs.b": np.zeros((39, 2))}, "labels must be whole numbers (39,)"),
        ({"images": np.zeros((40, 5, 4, 3), int)}, "images must be uint8 or floats, (n, h, w) or (n, h, w, c)"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(UserError) as caught:
        dataset_of(tmp_path, {**arrays, "labels": LABELS}).info()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_size_of_both_parts_counts(tmp_path: Path) -> None:
    arrays = {
        "inputs": np.zeros((40, 1000)),
        "labels": LABELS,
        "test_inputs": np.zeros((2, 1000)),
        "test_labels": [0, 1],
    }
    with pytest.raises(UserError, match=r"unpacks to 0.00 GB, more than max_size=200KB"):
        dataset_of(tmp_path, arrays, max_size="200KB").info()
