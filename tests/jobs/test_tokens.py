"""Tokens: one array of whole numbers, and two with names, for networks with an embedding."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

import advunlearn
from tests.jobs.conftest import Cli

CODE = """
import torch
from torch import nn


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 16), nn.Linear(16, 2)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))


class Masked(Bag):
    def forward(self, ids, mask):
        vectors = self.embedding(ids) * mask[..., None]
        return self.head(vectors.sum(1) / mask.sum(1, keepdim=True))
"""
QUICK = [
    "optimizer.epochs=15",
    "optimizer.lr=0.05",
    "unlearner.epochs=1",
    "attack=[threshold,lira]",
    "attack.shadows=2",
]


@pytest.fixture(scope="module")
def sentences(folder: Path) -> dict[str, np.ndarray]:
    """Write sentences of 8 words, of which those below 10 are rare in class 1, and return them."""
    (folder / "bags.py").write_text(CODE, encoding="utf-8")
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    ids = rng.integers(0, 20, (300, 8))
    ids = np.where((labels[:, None] == 1) & (ids < 10) & (rng.random((300, 8)) < 0.8), ids + 10, ids)
    mask = (np.arange(8) < rng.integers(3, 9, (300, 1))).astype(np.int64)
    np.savez("tokens.npz", inputs=ids, labels=labels)
    np.savez("named.npz", **{"inputs.ids": ids, "inputs.mask": mask, "labels": labels})
    return {"ids": ids, "mask": mask, "labels": labels}


@pytest.mark.parametrize(("file", "network"), [("tokens", "Bag"), ("named", "Masked")])
def test_by_the_command_line(cli: Cli, sentences: dict[str, np.ndarray], file: str, network: str) -> None:
    model = ["model=module", f"model.factory=bags:{network}"]
    _, found = cli(*QUICK, "dataset=npz", f"dataset.path={file}.npz", *model, into=file)
    assert found["models"]["retrained"]["accuracy"]["test"] > 0.6
    assert np.isfinite(found["models"]["unlearned"]["attacks"]["lira"]["auc"])


def test_in_python(sentences: dict[str, np.ndarray]) -> None:
    names = {"retain": slice(0, 100), "forget": slice(100, 130), "audit": slice(130, 200), "test": slice(200, 300)}
    parts = {
        name: ({key: sentences[key][rows] for key in ("ids", "mask")}, sentences["labels"][rows])
        for name, rows in names.items()
    }
    test = parts.pop("test")
    network = importlib.import_module("bags").Masked()
    unlearned = advunlearn.unlearn(network, **parts, epochs=2)
    found = advunlearn.audit(unlearned, forget=parts["forget"], test=test, retain=parts["retain"])
    assert found["threshold"]["members"] == 30
    assert not torch.equal(unlearned.network.head.weight, network.head.weight)
