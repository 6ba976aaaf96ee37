"""Image files of 224x224 pixels, and a request that names files."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

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
    words += [
        "recipe=none",
        "unlearner.epochs=1",
        "attack=threshold",
    ]
    words += ["model=module", "model.factory=pooled:Net"]
    chosen = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.jpg"))]
    _, first = cli(*words, "forget.fraction=0.2", into="first")
    rows = np.load("first/splits.npz")["forget"]
    Path("request.txt").write_text("\n".join(chosen[row] for row in rows), encoding="utf-8")
    _, second = cli(*words, "forget=indices", "forget.path=request.txt", into="second")
    assert first["models"] == second["models"]
    assert len(rows) == 8


def test_an_image_folder_in_python(photos: Path) -> None:
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])
    pictures = ImageFolder(str(photos), transform=prepare)
    rows = {"retain": range(0, 60, 3), "forget": range(1, 60, 6), "audit": range(4, 60, 6), "test": range(2, 60, 3)}
    parts = {name: Subset(pictures, list(each)) for name, each in rows.items()}
    test = parts.pop("test")
    unlearned = advunlearn.unlearn(importlib.import_module("pooled").Net(), **parts, epochs=1)
    found = advunlearn.audit(unlearned, forget=parts["forget"], test=test, attacks="threshold")
    assert (found["threshold"]["members"], found["threshold"]["nonmembers"]) == (10, 20)
