"""`scripts/soak.py`: it kills, and its table counts what is wrong."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "soak.py"
SMALL = ["optimizer.epochs=2", "unlearner.epochs=1", "attack=threshold", "--seeds", "1", "--runs", "2", "--kills", "2"]


def test_two_kills_leave_nothing_wrong(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["soak.py", *SMALL])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capfd.readouterr().out
    assert end.value.code == 0, said
    cells = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| ")][1:]
    rows = {name: (int(count), int(wrong)) for name, count, wrong in cells}
    assert rows["kill -9, all"] >= (2, 0)
    assert rows["metrics compared with uninterrupted runs"] >= (1, 0)
    assert rows["`verify` completed"] >= (1, 0)
    assert {wrong for _, wrong in rows.values()} == {0}


@pytest.fixture
def soak(tmp_path: Path) -> Any:
    """Give a soak with one artefact in its store, like the one of the unbroken runs."""
    options = argparse.Namespace(seed=0, seeds=1, runs=1, kills=1, minutes=1)
    made = runpy.run_path(str(SCRIPT))["Soak"](tmp_path, [], options)
    folder = made.store / "ab" / ("ab" * 32)
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text(json.dumps({"files": {"arrays.npz": "1", "record.json": "2"}}))
    made.whole = {folder.name: {"files": {"arrays.npz": "1", "record.json": "of another time"}}}
    return made


def wrong(soak: Any) -> dict[str, int]:
    return {name: wrong for name, _, wrong in soak.table() if wrong}


def test_what_is_right_is_not_counted(soak: Any) -> None:
    soak.codes["run"] = Counter({0: 5})
    soak.vanished["cd" * 32] = 1
    (soak.place / "output1.txt").write_text(f"{'cd' * 8}  model              0.0 days      0.01 MB\n")
    assert wrong(soak) == {}


def test_each_fault_is_counted(soak: Any) -> None:
    soak.codes["run"] = Counter({0: 5, 1: 2})
    soak.vanished["cd" * 32] = 3
    soak.different = 1
    (soak.place / "output1.txt").write_text(
        f"{'cd' * 8}  model              0.0 days      0.01 MB\n3 whole, 2 damaged in there\nset aside in\n"
    )
    soak.whole["ab" * 32]["files"]["arrays.npz"] = "another"
    assert wrong(soak) == {
        "`run` completed": 2,
        "metrics compared with uninterrupted runs": 1,
        "artefacts compared with uninterrupted runs": 1,
        "artefacts deleted; wrong: not by a prune": 2,
        "artefacts found damaged": 3,
    }
