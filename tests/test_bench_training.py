"""`scripts/bench_training.py`: both sides do the same work, and the table says what was measured."""

from __future__ import annotations

import itertools
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_training import Bench, Card, Clock, bench_of, take_turns, transform_of
from PIL import Image

from advunlearn.config.compose import experiment_from
from tests.test_paired_gaps import read_tables

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_training.py"
COLUMNS = (
    "recipe",
    "images x epochs",
    "DataLoader, images/s",
    "ours, images/s",
    "ratio",
    "step alone, images/s",
    "final accuracy, both",
    "to accuracy",
    "DataLoader, s to it",
    "ours, s to it",
)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def bench(folder: Path, *words: str) -> Bench:
    return bench_of(experiment_from([*words, "device=cpu", "threads=1"]), None, folder, channels_last=False)


@pytest.fixture
def pictures(workplace: Path) -> list[str]:
    """Return the overrides for a dataset of 60 random pictures of 32x32 pixels and the small network."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 32, 32, 3), dtype=np.uint8), np.arange(90) % 3
    np.savez(workplace / "pictures.npz", images=images, labels=labels)
    return ["dataset=npz", "dataset.path=pictures.npz", "dataset.train_size=60", "model=cnn", "model.width=16"]


def test_the_table_of_a_cpu(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipes", "digits", "--images", "101", "--epochs", "8", "--repeat", "2", "--device", "cpu"]
    call(monkeypatch, *words)
    said, _, table = capsys.readouterr().out.partition("\n\n")
    assert re.fullmatch(r"torch \S+, CPU, threads: 1, turns: 2, load [\d.]+", said)
    ((row),) = read_tables(table)
    assert tuple(row) == COLUMNS
    assert row["recipe"] == "digits"
    assert row["images x epochs"] == "100 x 8"  # not 101: the last batch would be a single image
    assert re.fullmatch(r"[\d,]+ \([02] workers\)", row["DataLoader, images/s"])
    found = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", row["ratio"])
    assert found is not None
    assert 0 < float(found[2]) <= float(found[1]) <= float(found[3])
    for accuracy in row["final accuracy, both"].split(", "):
        assert 0.5 < float(accuracy) < 1  # both sides learn


def test_data_that_are_not_here_are_named_with_the_command_that_fetches_them(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, "--recipes", "digits", "cifar10_cpu", "--device", "cpu")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("error: cifar10_cpu: the images are not in the cache (try advunlearn data fetch cifar10)")


@pytest.mark.parametrize("words", [["--repeat", "0"], ["--epochs", "x"], ["--recipes", "vgg"], ["--device", "cuda:9"]])
def test_wrong_arguments_are_refused(
    words: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(monkeypatch, *words)
    assert words[1] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("normalised", ["by pixel", "by channel"])
def test_the_loop_prepares_images_as_our_side_does(tmp_path: Path, pictures: list[str], normalised: str) -> None:
    made = bench(tmp_path, *(["dataset=digits"] if normalised == "by pixel" else [*pictures, "dataset.augment=none"]))
    examples, pool = made.trainer.examples, np.asarray(made.trainer.pool.inputs)
    transform, expected = transform_of(examples), examples.prepared(20)
    assert isinstance(expected, torch.Tensor)
    for image, ours in zip(pool[:20], expected, strict=True):
        theirs = transform(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))
        assert torch.allclose(theirs, ours, atol=1e-5)


def test_the_loop_augments_as_our_side_does(tmp_path: Path, pictures: list[str]) -> None:
    made = bench(tmp_path, *pictures, "dataset.augment=flip_crop")
    examples, pool = made.trainer.examples, np.asarray(made.trainer.pool.inputs)
    draws = torch.tensor(list(itertools.product(range(9), range(9), range(2)))).T
    assert isinstance(examples.inputs, torch.Tensor)
    views = examples.prepare(examples.inputs[:1].expand(162, -1, -1, -1), draws)
    assert isinstance(views, torch.Tensor)
    transform, drawn = transform_of(examples), set()
    for _ in range(40):
        distance = (views - transform(Image.fromarray(pool[0]))).abs().amax((1, 2, 3))
        assert distance.min() < 1e-5
        drawn.add(int(distance.argmin()))
    assert len(drawn) > 20


def test_all_sides_make_the_steps_of_the_recipe(tmp_path: Path, pictures: list[str]) -> None:
    made = bench(tmp_path, *pictures, "optimizer.epochs=2", "optimizer.batch_size=25")
    found = take_turns(made, 1)
    assert set(found) == {"ours", "0 workers", "2 workers", "step alone"}
    for side, (clock,) in found.items():
        assert len(clock.epochs) == (1 if side == "step alone" else 2)
        assert clock.seconds > 0
        seconds = [each for each, _ in clock.epochs]
        assert seconds == sorted(seconds)
        images = 2500 if side == "step alone" else 120
        assert made.rate(side, clock) == pytest.approx(images / clock.seconds)


def test_the_seconds_to_an_accuracy_are_those_of_the_first_epoch_that_reaches_it() -> None:
    clock = Clock(lambda: 0.0, 1, epochs=[(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (4.0, 0.7)])
    assert [clock.until(each) for each in (0.4, 0.5, 0.6, 0.7, 0.8)] == [1.0, 1.0, 2.0, 2.0, float("inf")]


def test_the_floor_is_of_operations_and_of_passes_over_what_convolutions_put_out(
    tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Card, "multiplies", lambda *_: 2e12)
    made = bench(tmp_path, *pictures)
    cells = Card(torch.device("cpu"), 1e11).cells(made, images=10_000)
    # Three convolutions of 3x3 on images of 32, 16 and 8 pixels a side, and a linear layer.
    outputs = 16 * 32**2 + 32 * 16**2 + 64 * 8**2
    operations = 6 * (9 * (3 * 16 * 32**2 + 16 * 32 * 16**2 + 32 * 64 * 8**2) + 64 * 3)
    floor = operations / 2e12 + 14 * 4 * outputs / 1e11
    assert cells["TFLOP/s"] == f"{1e-8 * operations:.1f}"
    assert cells["of a matrix product (fp32)"] == f"{operations * 1e4 / 2e12:.1%} of 2"
    assert cells["floor, images/s"] == f"{1 / floor:,.0f}"
    assert cells["of the floor"] == f"{1e4 * floor:.1%}"
