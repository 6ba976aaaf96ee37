"""A BatchNorm CNN that was trained elsewhere on Fashion-MNIST, and 300 rows to delete."""

from __future__ import annotations

import gzip
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

import advunlearn
from tests.data.test_torchvision import idx
from tests.jobs.conftest import Cli

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
SIZES = {"train": 900, "t10k": 600}
MEAN, STD = 0.286, 0.353
CODE = """
import torch
from torch import nn
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        )
        self.head = nn.Linear(16 * 49, 10)

    def forward(self, images):
        return self.head(self.features(images).flatten(1))


def train(dataset, seed):
    torch.manual_seed(seed)
    network = Net()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(5):
        for images, labels in DataLoader(dataset, batch_size=100, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    return network.eval()
"""
DATA = ["dataset=torchvision", "dataset.name=FashionMNIST", "dataset.root=data"]
DATA += [f"dataset.mean=[{MEAN}]", f"dataset.std=[{STD}]"]
MODEL = ["model=module", "model.factory=fashion:Net", "recipe=none", "optimizer=adamw"]
MODEL += ["optimizer.lr=5e-3", "optimizer.epochs=5", "optimizer.batch_size=100"]
REQUEST = ["forget=indices", "forget.path=rows.txt", "unlearner.epochs=1", "unlearner.audit_every=3"]
REQUEST += ["attack=[threshold,lira]", "attack.shadows=4"]


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, Any]:
    """Write the first rows of Fashion-MNIST as torchvision reads them, and return them as tensors."""
    if not DEBIAN.exists():
        reason = "needs Fashion-MNIST (apt-get install dataset-fashion-mnist)"
        if os.environ.get("ADVUNLEARN_REQUIRE_DATA"):
            pytest.fail(reason)
        pytest.skip(reason)
    found = {}
    for part, count in SIZES.items():
        pixels = read(f"{part}-images-idx3-ubyte", 16, count * 784).reshape(count, 28, 28)
        labels = read(f"{part}-labels-idx1-ubyte", 8, count)
        idx(folder / "data" / "FashionMNIST" / "raw" / f"{part}-images-idx3-ubyte", pixels)
        idx(folder / "data" / "FashionMNIST" / "raw" / f"{part}-labels-idx1-ubyte", labels)
        found[part] = (torch.tensor(pixels)[:, None] / 255 - MEAN) / STD, torch.tensor(labels).long()
    return found


def read(name: str, header: int, count: int) -> np.ndarray:
    with gzip.open(DEBIAN / f"{name}.gz") as file:
        return np.frombuffer(file.read(header + count), np.uint8, offset=header)


@pytest.fixture(scope="module")
def net(folder: Path, images: dict[str, Any]) -> nn.Module:
    """Train the model, save it in both formats, and write the rows to delete."""
    (folder / "fashion.py").write_text(CODE, encoding="utf-8")
    network = importlib.import_module("fashion").train(TensorDataset(*images["train"]), 0)
    torch.save({"model": network.state_dict(), "epoch": 5}, "net.pt")
    save_file(network.state_dict(), "net.safetensors")
    Path("rows.txt").write_text("\n".join(map(str, range(300))), encoding="utf-8")
    return network


def test_by_the_command_line_from_either_format(cli: Cli, net: nn.Module) -> None:
    printed, first = cli(*DATA, *MODEL, *REQUEST, "original.path=net.pt", into="pt")
    _, second = cli(*DATA, *MODEL, *REQUEST, "original.path=net.safetensors", into="safetensors")
    assert "report: " in printed
    assert first["models"] == second["models"]
    for model in first["models"].values():
        assert model["attacks"]["lira"]["shadows"] == 4
    original, retrained = (first["models"][name]["accuracy"]["forget"] for name in ("original", "retrained"))
    assert original > retrained + 0.05  # the gold standard has not seen these rows
    assert first["original"]["new"] == 300
    assert first["original"]["sha256"][:12] in Path("pt", "report.html").read_text(encoding="utf-8")
    unlearned = importlib.import_module("fashion").Net()
    unlearned.load_state_dict(load_file("pt/unlearned.safetensors"))
    assert not torch.equal(unlearned.head.weight, net.head.weight)


def test_in_python(images: dict[str, Any], net: nn.Module) -> None:
    inputs, labels = images["train"]
    parts = {"forget": (inputs[:300], labels[:300]), "retain": (inputs[300:], labels[300:])}
    held = {
        name: tuple(each[rows] for each in images["t10k"])
        for name, rows in {"audit": slice(200), "test": slice(200, None)}.items()
    }
    unlearned = advunlearn.unlearn(net, **parts, audit=held["audit"], method="sg", epochs=1, audit_every=3)
    found = advunlearn.compare(
        original=net,
        unlearned=unlearned,
        train=importlib.import_module("fashion").train,
        **parts,
        **held,
        attacks=["threshold", "lira"],
        shadows=4,
    )
    models = found.metrics["models"]
    assert models["original"]["accuracy"]["forget"] > models["retrained"]["accuracy"]["forget"] + 0.05
    assert {model["attacks"]["lira"]["shadows"] for model in models.values()} == {4}
    assert "original" in found.to_frame().columns
    page = found.save("audits/fashion.html").read_text(encoding="utf-8")
    assert "lira" in page
    assert "data:image" in page or "<svg" in page
