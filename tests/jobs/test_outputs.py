"""Networks that return one logit of a sigmoid, or a dict, by the command line and in Python."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advunlearn
from tests.jobs.conftest import Cli

CODE = """
from torch import nn


class Sigmoid(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, inputs):
        hidden = self.body(inputs).relu()
        return {"hidden": hidden, "logits": self.head(hidden)}
"""


@pytest.fixture(scope="module")
def features(folder: Path) -> Any:
    """Write two noisy classes, and networks of them."""
    (folder / "nets.py").write_text(CODE, encoding="utf-8")
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    inputs = rng.normal(0.5 * labels[:, None], 1, (300, 8)).astype(np.float32)
    np.savez("features.npz", inputs=inputs, labels=labels)
    return inputs, labels


@pytest.mark.parametrize("network", ["Sigmoid", "Dictionary"])
def test_by_the_command_line(cli: Cli, features: Any, network: str) -> None:
    words = ["dataset=npz", "dataset.path=features.npz", "model=module", f"model.factory=nets:{network}"]
    words += ["optimizer.epochs=10", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]
    _, found = cli(*words, into=network)
    assert found["models"]["retrained"]["accuracy"]["test"] > 0.6


@pytest.mark.parametrize("network", ["Sigmoid", "Dictionary"])
def test_in_python(features: Any, network: str) -> None:
    original = getattr(importlib.import_module("nets"), network)()
    fit(original, features, 100)
    rows = {"retain": slice(0, 70), "forget": slice(70, 100), "audit": slice(100, 200), "test": slice(200, 300)}
    parts = {name: tuple(each[where] for each in features) for name, where in rows.items()}
    test = parts.pop("test")
    unlearned = advunlearn.unlearn(original, **parts, epochs=2)
    del parts["audit"]
    found = advunlearn.compare(original=original, unlearned=unlearned, retrained=original, **parts, test=test)
    inputs, labels = (torch.tensor(each) for each in test)
    with torch.no_grad():
        outputs = original(inputs)
    predicted = outputs["logits"].argmax(1) if network == "Dictionary" else (outputs[:, 0] > 0).long()
    expected = (predicted == labels).double().mean().item()
    assert found.metrics["models"]["original"]["accuracy"]["test"] == pytest.approx(expected)


def fit(network: nn.Module, data: Any, count: int) -> None:
    inputs, labels = (torch.tensor(each[:count]) for each in data)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        outputs = network(inputs)
        if isinstance(outputs, dict):
            loss = F.cross_entropy(outputs["logits"], labels)
        else:
            loss = F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())
        loss.backward()
        optimizer.step()
