"""A table: scikit-learn's breast cancer as a CSV file, and a network that was trained on it elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

import advunlearn
from tests.jobs.conftest import Cli

CODE = """
import torch
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))


def train(dataset, seed):
    torch.manual_seed(seed)
    network = Net()
    inputs, labels = map(torch.stack, zip(*((x, torch.tensor(y)) for x, y in dataset)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    return network
"""


@pytest.fixture(scope="module")
def table(folder: Path) -> Any:
    """Write the table and the code of the person; return features and labels."""
    whole = load_breast_cancer(as_frame=True)
    frame = whole.frame.assign(target=np.where(whole.target == 1, "benign", "malignant"))
    frame.to_csv("cancer.csv", index_label="patient")
    (folder / "cancer.py").write_text(CODE, encoding="utf-8")
    return whole.data.to_numpy(np.float32), whole.target.to_numpy()


def test_by_the_command_line(cli: Cli, table: Any) -> None:
    Path("rows.txt").write_text("\n".join(map(str, range(30))), encoding="utf-8")
    words = ["dataset=table", "dataset.path=cancer.csv", "dataset.label=target", "dataset.drop=[patient]"]
    words += ["forget=indices", "forget.path=rows.txt", "optimizer.epochs=20"]
    _, found = cli(*words, "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=4", into="cancer")
    assert found["models"]["retrained"]["accuracy"]["test"] > 0.8
    assert found["models"]["original"]["attacks"]["lira"]["members"] > 20


def test_in_python(table: Any) -> None:
    features, labels = table
    features = (features - features.mean(0)) / features.std(0)
    order = np.random.default_rng(0).permutation(len(labels))
    rows = dict(zip(("forget", "retain", "audit", "test"), np.split(order, [40, 240, 400]), strict=True))
    parts = {name: (features[each], labels[each]) for name, each in rows.items()}
    train = importlib.import_module("cancer").train
    original = train(list(zip(torch.tensor(features[order[:240]]), labels[order[:240]].tolist(), strict=True)), 0)
    held = {name: parts.pop(name) for name in ("audit", "test")}
    unlearned = advunlearn.unlearn(original, **parts, audit=held["audit"], method="sg", epochs=2)
    found = advunlearn.compare(
        original=original, unlearned=unlearned, train=train, **parts, **held, attacks=["threshold", "lira"], shadows=4
    )
    assert isinstance(found.network, nn.Module)
    assert found.metrics["models"]["retrained"]["accuracy"]["test"] > 0.9
    assert found.metrics["models"]["original"]["attacks"]["lira"]["members"] > 30
