"""Sweeps on one machine: every run is frozen first, none is done twice, and a failed one does not stop the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advunlearn.cli import main
from advunlearn.runs.state import read_manifest, state_of
from tests.conftest import own_unlearner

QUICK = ["optimizer.epochs=2", "unlearner.epochs=1", "attack=threshold"]
INTO = "hydra.sweep.dir=sweep"


def stages(folder: Path) -> list[str]:
    return [stage["name"] for stage in (read_manifest(folder) or {})["stages"]]


def test_a_failed_run_is_seen_at_the_end_and_can_be_done_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method = """
        if task.settings.seed == 2 and not Path("mended").exists():
            raise RuntimeError("seed two again")
        return super().unlearn(network, task)
    """
    own_unlearner(workplace, "fragile", method)
    monkeypatch.syspath_prepend(str(workplace))
    sweep = ["run", "-m", "--config-dir", "my", "unlearner=fragile", "seed=1,2,3", INTO, *QUICK]
    assert main(sweep) == 1
    said = capsys.readouterr()
    assert [state_of(workplace / "sweep" / str(number)).name for number in range(3)] == [
        "completed",
        "failed",
        "completed",
    ]
    assert "error: sweep/1: RuntimeError: seed two again" in said.err
    assert "seed two again" in said.out  # in the table at the end
    assert (workplace / "sweep" / "report.html").is_file()
    before = (workplace / "sweep" / "0" / "manifest.json").read_bytes()
    Path("mended").touch()
    assert main(["resume", "sweep"]) == 0
    assert "seed two again" not in capsys.readouterr().out.rsplit("runs", 1)[-1]
    assert (workplace / "sweep" / "0" / "manifest.json").read_bytes() == before
    assert main(sweep) == 0  # the same command: all are completed
    assert (workplace / "sweep" / "0" / "manifest.json").read_bytes() == before


def test_another_sweep_does_not_do_a_finished_run_again(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "seed=1,2", INTO, *QUICK]) == 0
    assert main(["run", "-m", "seed=2,3", *QUICK]) == 0
    (other,) = (workplace / "outputs" / "sweeps").iterdir()
    assert stages(other / "0") == ["data", "run"]
    assert stages(other / "1")[-1] == "report"
    first, again = (
        json.loads((folder / "metrics.json").read_text()) for folder in (workplace / "sweep/1", other / "0")
    )
    assert first == again
    assert "2     unlearned" in capsys.readouterr().out
    assert (read_manifest(other / "0") or {})["overrides"] == ["seed=2", *QUICK]
    assert main(["run", "-m", "seed=5,6", INTO, *QUICK]) == 2
    assert "holds another run; choose another folder" in capsys.readouterr().err


def test_what_only_a_later_combination_has_wrong_is_found_before_anything_runs(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "-m", "dataset.train_size=100,250", "forget.fraction=0.2,0.001", INTO, *QUICK]
    assert main(words) == 2
    assert "forget.fraction" in capsys.readouterr().err
    assert not (workplace / "sweep").exists()
