"""What a run writes for TensorBoard, read back with its own reader."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.options import ConfigError
from advunlearn.report.run.tensorboard import EVENTS, write_events
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.settings import Settings
from advunlearn.train import run_experiment

QUICK = ["optimizer.epochs=2", "unlearner.epochs=2", "unlearner.keep_epoch=best", "attack=threshold"]


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_a_run_is_written_and_finds_the_same(workplace: Path) -> None:
    plain = advunlearn.run(QUICK)
    assert list(plain.folder.glob(EVENTS)) == []
    result = advunlearn.run([*QUICK, "tensorboard=true"])
    stages = json.loads((result.folder / "manifest.json").read_text())["stages"]
    assert all(stage["reused"] for stage in stages if stage["artefact"])  # it is in no key of the store
    found, trace = events(result.folder), result.metrics["trace"]
    assert [step for step, _ in found["game/utility"]] == trace["step"]
    assert [value for _, value in found["game/auditor_accuracy"]] == pytest.approx(trace["auditor_accuracy"])
    assert [step for step, _ in found["epochs/utility"]] == trace["epochs"]["step"]
    assert [value for _, value in found["epochs/utility"]] == pytest.approx(trace["epochs"]["utility"])
    for model, metrics in result.metrics["models"].items():
        assert found[f"{model}/accuracy_test"] == [(0, pytest.approx(metrics["accuracy"]["test"]))]
        assert found[f"{model}/auc_threshold"] == [(0, pytest.approx(metrics["attacks"]["threshold"]["auc"]))]
    gap = result.metrics["gap"]["unlearned"]["attacks"]["threshold"]
    assert found["gap/unlearned_threshold"] == [(0, pytest.approx(gap))]
    write_events(result.folder, result.metrics)  # as an attempt that is resumed
    assert len(list(result.folder.glob(EVENTS))) == 1


def test_a_run_that_takes_over_another_is_written_too(workplace: Path) -> None:
    advunlearn.run(QUICK)
    with Manifest(workplace / "again") as manifest:
        result = run_experiment(experiment_from([*QUICK, "tensorboard=true"]), manifest, adopt=True)
    assert result.network is None  # taken over
    assert len(events(workplace / "again")["game/utility"]) == len(result.metrics["trace"]["step"])


def test_a_missing_package_is_said_with_the_other_mistakes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    assert main(["check", "tensorboard=true", "device=tpu", "model.hidden=[0]"]) == 2
    lines = capsys.readouterr().err.splitlines()
    wanted = "tensorboard=true: the package tensorboard is not installed (try pip install 'advunlearn[tensorboard]')"
    assert f"error: {wanted}" in lines
    assert len(lines) == 3
    assert main(["check"]) == 0
    with pytest.raises(ConfigError, match="is not installed"):
        advunlearn.run(["tensorboard=true"])


def test_it_identifies_nothing() -> None:
    assert Settings(tensorboard=True).identity() == Settings().identity()
