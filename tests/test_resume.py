"""A run that was killed, interrupted or has failed goes on in its folder, to the numbers of an unbroken one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.state import state_of
from advunlearn.runtime.resources import cores
from advunlearn.runtime.signals import Interrupted, halt_point, heed_signals
from advunlearn.runtime.workers import forks, run_tasks
from advunlearn.shadows import model_set
from advunlearn.shadows.model_set import ModelSet
from advunlearn.storage import locks
from advunlearn.storage.store import Store
from tests.conftest import Command, Running, own_unlearner, stages_of
from tests.test_run import QUICK, without_seconds

# Many checkpoints, and stages that last long enough to be hit.
LONG = ["attack=threshold", "optimizer.epochs=60", "unlearner.epochs=10", "checkpoint_seconds=0.1"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def run_folder(workplace: Path) -> Path:
    (folder,) = (workplace / "outputs" / "digits" / "sg").iterdir()
    return folder


def test_a_run_killed_in_its_first_training_and_then_interrupted_goes_on(workplace: Path, command: Command) -> None:
    cache = Path(os.environ["ADVUNLEARN_CACHE"])
    running = Running("run", *LONG)
    running.wait_until(lambda: any((cache / "store" / "checkpoints").glob("*/*.safetensors")))
    running.process.kill()
    running.finish()
    folder = run_folder(workplace)
    assert state_of(folder).name == "died"

    running = Running("resume", str(folder))
    running.wait_until(lambda: stages_of(folder) == 3)  # data, pretrain, retrain
    assert state_of(folder).name == "running"
    os.kill(running.pid, signal.SIGUSR1)
    assert running.finish().returncode == 128 + signal.SIGUSR1
    assert state_of(folder).name == "interrupted"

    done = command("resume", str(folder))
    assert done.returncode == 0, done.stderr
    manifest = read(folder / "manifest.json")
    assert manifest["status"] == "completed"
    assert [attempt["status"] for attempt in manifest["attempts"]] == ["running", "interrupted"]
    assert manifest["overrides"] == LONG
    assert [stage["reused"] for stage in manifest["stages"][1:3]] == [True, True]
    assert list((cache / "store" / "checkpoints").glob("*")) == []
    shutil.rmtree(cache)
    unbroken = advunlearn.run(LONG, workplace / "unbroken").metrics
    assert without_seconds(read(folder / "metrics.json")) == without_seconds(unbroken)


SHADOWS = ["attack=lira", "attack.shadows=4", "attack.stacked=false", "optimizer.epochs=4", "unlearner.epochs=1"]


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()))


@pytest.mark.skipif(not forks() or cores() < 2, reason="needs two CPU cores, and processes as workers")
def test_a_worker_that_the_system_kills_ends_the_run_with_137_and_the_next_try_has_fewer(
    workplace: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole_fit = ModelSet.fit

    def endless(models: ModelSet, rows: Any, stream: str, group: Any, whole: Any) -> Any:
        while group[0]:  # after the first model, each training lasts until it is ended
            halt_point()
            time.sleep(0.01)
        return whole_fit(models, rows, stream, group, whole)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelSet, "fit", endless)
        running = Running("run", *SHADOWS, "workers=2", "hydra.run.dir=run")
    folder = workplace / "run"
    running.wait_until(lambda: any(Store().keys("shadow")) and len(children(running.pid)) == 2)
    os.kill(children(running.pid)[-1], signal.SIGKILL)  # the other may have just ended
    done = running.finish()
    assert done.returncode == 137, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "rror" in line)
    assert line.startswith("error: the system killed one of 2 worker processes, most likely because memory ran out")
    assert line.endswith(f"; advunlearn resume {folder} continues with workers=1")
    assert state_of(folder).name == "failed"

    started: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model_set, "run_tasks", lambda tasks, workers: started.append(workers) or run_tasks(tasks, workers)
        )
        assert main(["resume", str(folder)]) == 0
    assert started == [1]
    assert read(folder / "manifest.json")["attempts"][0]["most_workers"] == 1
    shutil.rmtree(os.environ["ADVUNLEARN_CACHE"])
    unbroken = advunlearn.run(SHADOWS, workplace / "unbroken").metrics
    assert without_seconds(read(folder / "metrics.json")) == without_seconds(unbroken)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
def test_a_closed_terminal_or_a_limit_of_time_leaves_a_checkpoint(workplace: Path, number: signal.Signals) -> None:
    cache = Path(os.environ["ADVUNLEARN_CACHE"])
    running = Running("run", *LONG[:1], "optimizer.epochs=4000", "hydra.run.dir=run")  # a checkpoint each minute
    running.wait_until(lambda: any((cache / "store" / "claims").glob("*")))  # the first training has begun
    os.kill(running.pid, number)
    done = running.finish()
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr
    assert state_of(workplace / "run").name == "interrupted"
    assert len(list((cache / "store" / "checkpoints").glob("*/*.safetensors"))) == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1])
def test_a_signal_that_comes_twice_for_one_request_leaves_time_for_the_checkpoint(number: signal.Signals) -> None:
    """A shell and its terminal that close both send SIGHUP; the kernel sends SIGXCPU every second."""
    with heed_signals():
        for _ in range(2):
            os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=number.name):
            halt_point()


def test_nohup_keeps_a_run_from_a_closed_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heed_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            halt_point()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_has_failed_can_be_tried_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method = r"""
        if not Path("mended").exists():
            raise RuntimeError("first line\nno such luck")
        return Unlearned(network)
    """
    own_unlearner(workplace, "failing", method)
    monkeypatch.syspath_prepend(str(workplace))
    config = experiment_from([*QUICK, "attack=threshold"]).config | {"unlearner": {"_target_": "failing.Own"}}
    folder = workplace / "run"
    folder.mkdir()
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    assert main(["resume", "run"]) == 1
    line = "error: run: RuntimeError: first line no such luck (traceback in run/advunlearn.log)"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert str(state_of(folder)) == "failed: no such luck"
    assert "Traceback" in (folder / "advunlearn.log").read_text()
    Path("mended").touch()
    assert main(["resume", "run"]) == 0
    assert [attempt["status"] for attempt in read(folder / "manifest.json")["attempts"]] == ["failed"]
    assert main(["resume", "run"]) == 0
    assert "completed already" in capsys.readouterr().out


def test_a_folder_with_a_config_alone_is_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = advunlearn.run([*QUICK, "attack=threshold"], workplace / "made")
    for name in ("10", "9"):
        (workplace / "sweep" / name).mkdir(parents=True)
        shutil.copy(made.folder / "config.yaml", workplace / "sweep" / name / "config.yaml")
    (workplace / "sweep" / "9" / "job.json").write_text('{"overrides": ["seed=1"], "choices": {"unlearner": "sg"}}')
    assert state_of(workplace / "sweep" / "9").name == "waiting"
    assert main(["resume", "sweep"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("report: ")] == [
        "report: sweep/report.html, with table.csv, table.md, table.tex, runs.csv next to it",
    ]
    assert read(workplace / "sweep" / "9" / "manifest.json")["overrides"] == ["seed=1"]
    assert read(workplace / "sweep" / "10" / "metrics.json") == made.metrics


def test_what_is_no_run_is_refused_and_a_bad_config_recorded(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "empty").mkdir()
    assert main(["resume", "empty", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: empty: no run at or below it\nerror: nowhere: no run at or below it\n"
    advunlearn.run([*QUICK, "attack=threshold"], workplace / "made")
    (workplace / "bad").mkdir()
    text = (workplace / "made" / "config.yaml").read_text()
    (workplace / "bad" / "config.yaml").write_text(text.replace("seed: 0", "seed: -1"))
    assert main(["resume", "bad"]) == 2
    assert capsys.readouterr().err.startswith("error: bad: seed must be at least 0")
    assert state_of(workplace / "bad").name == "failed"


def test_a_run_does_not_go_on_twice_at_once(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "_heart", locks._Heart())  # that of earlier tests still beats slowly
    config = OmegaConf.create(experiment_from([*QUICK, "attack=threshold"]).config)
    (workplace / "run").mkdir()
    OmegaConf.save(config, workplace / "run" / "config.yaml")
    with Manifest(workplace / "run"):
        assert state_of(workplace / "run").name == "running"
        assert main(["resume", "run"]) == 1
    assert "running already" in capsys.readouterr().err


def test_a_completed_run_is_left_as_it_is(workplace: Path) -> None:
    advunlearn.run([*QUICK, "attack=threshold"], workplace / "made")
    with pytest.raises(ValueError, match="completed"):
        Manifest(workplace / "made", resume=True)
