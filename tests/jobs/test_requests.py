"""Two requests, one after the other, of a person with a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from tests.jobs.conftest import Cli

NET = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""
QUICK = ["model=module", "model.factory=requested:Net", "optimizer.epochs=10", "unlearner.epochs=1"]
QUICK += ["attack=threshold", "forget=indices"]


def test_the_second_request_starts_from_the_first_and_remembers_it(cli: Cli, folder: Path) -> None:
    (folder / "requested.py").write_text(NET, encoding="utf-8")
    cli(*QUICK[:2], "optimizer.epochs=10", "unlearner=none", "attack=threshold", into="training")
    rows = np.load("training/splits.npz")
    trained = np.sort(np.concatenate([rows["retain"], rows["forget"]]))
    for number, part in enumerate((trained[:20], trained[20:50])):
        Path(f"request{number}.txt").write_text("\n".join(map(str, part)), encoding="utf-8")
    given = "original.path=training/original.safetensors"
    _, first = cli(*QUICK, given, "forget.path=request0.txt", into="first", verb="unlearn")
    _, second = cli(*QUICK, "original.run=first", "forget.path=request1.txt", into="second", verb="unlearn")
    assert (first["original"]["new"], second["original"]["new"]) == (20, 30)
    assert second["original"]["forgotten_before"] == 20
    assert np.array_equal(np.load("second/splits.npz")["forget"], trained[:50])
    assert second["models"]["unlearned"]["attacks"]["threshold"]["members"] > 40
    weights = [load_file(f"{name}/unlearned.safetensors")["1.weight"] for name in ("first", "second")]
    assert not torch.equal(*weights)
    last = ["original.path=second/unlearned.safetensors", "forget.path=request1.txt", "attack=threshold"]
    printed, audited = cli(*QUICK[:3], "forget=indices", *last, into="audit", verb="audit")
    assert "threshold" in printed
    assert audited["metrics"]["attacks"]["threshold"]["members"] <= 30
    assert audited["metrics"]["accuracy"]["test"] == second["models"]["unlearned"]["accuracy"]["test"]
