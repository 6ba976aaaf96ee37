"""`train.py` as a script is `advunlearn run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import advunlearn.train
from advunlearn.cli import main

SCRIPT = str(Path(advunlearn.train.__file__))
MODULE = ["-m", "advunlearn.train"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=1"]


def run(workplace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=workplace, env=os.environ.copy(), capture_output=True, text=True, timeout=300)


def test_as_a_script_it_runs(workplace: Path) -> None:
    done = run(workplace, SCRIPT, "attack=threshold", "optimizer.epochs=2", "unlearner.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout
    assert len(list((workplace / "outputs" / "digits" / "sg").glob("*/metrics.json"))) == 1


def test_as_a_script_it_needs_no_installation(workplace: Path) -> None:
    paths = {str(Path(path).resolve()) for path in (*sys.path, "") if path}
    source = str(Path(SCRIPT).parents[1])
    code = (
        f"import runpy, sys; sys.path = [{str(Path(SCRIPT).parent)!r}, *(p for p in sys.path if p != {source!r})]; "
        f"sys.argv = ['train.py', 'sed=1']; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    )
    assert source in paths
    done = run(workplace, "-c", code)
    assert (done.returncode, done.stderr) == (2, "error: sed: no such option (did you mean seed?)\n")


def test_as_a_module_it_sweeps_and_refuses_mistakes(workplace: Path) -> None:
    done = run(workplace, *MODULE, "-m", "seed=1,x")
    assert done.returncode == 2
    assert "error: seed must be a whole number, got x" in done.stderr


@pytest.mark.parametrize("script", [[SCRIPT], MODULE], ids=["file", "module"])
def test_under_torchrun(workplace: Path, script: list[str]) -> None:
    done = run(workplace, *TORCHRUN, *script, "--cfg", "job", "seed=7")
    assert done.returncode == 0, done.stderr
    assert "seed: 7" in done.stdout


def test_several_processes_of_torchrun_are_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["run", "attack=threshold"]) == 2
    assert capsys.readouterr().err == "error: WORLD_SIZE=2: one run uses all GPUs by itself (leave out torchrun)\n"
