"""A given original in an interrupted run, in a sweep and in shards: the numbers are those of an unbroken run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import jobs_from
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.sweeps.freeze import freeze, shadow_shards
from tests.conftest import own_unlearner
from tests.test_run import without_seconds

SMALL = ["dataset.train_size=80", "model.hidden=8", "optimizer.epochs=3", "device=cpu", "threads=1"]
QUICK = [*SMALL, "unlearner=finetune", "unlearner.epochs=2", "attack=threshold"]

# Sends its own process, once, the signal that a cluster sends before the end of a job.
SIGNALLED = """
    import os, signal
    if Path("armed").exists():
        Path("armed").unlink()
        os.kill(os.getpid(), signal.SIGUSR1)
    return super().unlearn(network, task)
"""


@pytest.fixture
def first(workplace: Path) -> Path:
    """Give the folder of a finished run."""
    advunlearn.run(QUICK, "first")
    return workplace


def numbers(folder: str | Path) -> Any:
    return without_seconds(json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8")))


def unbroken(words: list[str], monkeypatch: pytest.MonkeyPatch, config_dir: str | None = None) -> Any:
    """Return the numbers of a run that finds nothing in the store."""
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(Path("empty").absolute()))
    return without_seconds(advunlearn.run(words, "unbroken", config_dir=config_dir).metrics)


@pytest.mark.parametrize("given", ["original.path=first/original.safetensors", "original.run=first"])
def test_an_interrupted_run_resumes(first: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    own_unlearner(first, "signalled", SIGNALLED)
    monkeypatch.syspath_prepend(str(first))
    words = [*SMALL, "attack=threshold", "unlearner=signalled", given]
    Path("armed").touch()
    assert main(["run", "--config-dir", "my", *words, "hydra.run.dir=broken"]) == 128 + signal.SIGUSR1
    assert state_of(Path("broken")).name == "interrupted"
    stages = (read_manifest(Path("broken")) or {})["stages"]
    assert stages[-1]["name"] == "unlearn"
    assert main(["resume", "broken"]) == 0
    assert numbers("broken") == unbroken(words, monkeypatch, "my")


def test_each_run_of_a_sweep_has_the_numbers_of_a_run_alone(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = "original.run=first"
    assert main(["run", "-m", *QUICK, given, "unlearner.lr=0.01,0.02", "hydra.sweep.dir=sweep"]) == 0
    assert numbers("sweep/1") == unbroken([*QUICK, given, "unlearner.lr=0.02"], monkeypatch)
    assert numbers("sweep/0") != numbers("sweep/1")


def test_shards_of_the_shadow_models_are_those_of_the_run(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders are those of `advunlearn submit --shadow-shards 2`; each job resumes one."""
    words = [*QUICK[:-1], "attack=lira", "attack.shadows=4", "original.path=first/original.safetensors"]
    jobs = jobs_from(words)
    freeze(Path("sweep"), jobs)
    freeze(Path("sweep/shadows"), shadow_shards(jobs, 2))
    assert [main(["resume", f"sweep/{part}"]) for part in ("shadows/0", "shadows/1", "0")] == [0, 0, 0]
    stages = (read_manifest(Path("sweep/0")) or {})["stages"]
    assert [stage["name"] for stage in stages][-4:] == ["attack", "weights", "selection", "report"]
    assert numbers("sweep/0") == unbroken(words, monkeypatch)
