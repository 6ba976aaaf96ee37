"""Image files of 224x224 pixels, and a request that names files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import advunlearn
from tests.jobs.conftest import Cli

CODE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(3 * 64, 2))
"""


@pytest.fixture(scope="module")
def photos(folder: Path) -> Path:
    """Write 60 pictures, of which every second one is brighter."""
    (folder / "pooled.py").write_text(CODE, encoding="utf-8")
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 200, (7, 7, 3)).astype(np.uint8) + np.uint8(30 * (number % 2))
        path = folder / "photos" / ("day" if number % 2 else "night") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((224, 224)).save(path)
    return folder / "photos"


def test_files_of_a_list_are_forgotten(cli: Cli, photos: Path) -> None:
    words = ["dataset=folder", "dataset.root=photos", "dataset.train_size=40", "optimizer=adamw", "optimizer.epochs=5"]
    words += ["recipe=none", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]
    words += ["model=module", "model.factory=pooled:Net"]
    chosen = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.jpg"))]
    _, first = cli(*words, "forget.fraction=0.2", into="first")
    rows = np.load("first/splits.npz")["forget"]
    Path("request.txt").write_text("\n".join(chosen[row] for row in rows), encoding="utf-8")
    _, second = cli(*words, "forget=indices", "forget.path=request.txt", into="second")
    assert first["models"] == second["models"]
    assert len(rows) == 8


def test_the_same_words_in_python(photos: Path) -> None:
    words = ["dataset=folder", "dataset.root=photos", "dataset.size=32", "dataset.train_size=40", "model=cnn"]
    words += ["recipe=none", "attack=threshold", "optimizer.epochs=1", "unlearner=finetune", "unlearner.epochs=1"]
    assert set(advunlearn.run(words).networks) == {"original", "retrained", "unlearned"}
