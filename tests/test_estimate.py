"""What a run says of its work before it starts."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.data.cifar10 import Cifar10
from advunlearn.runtime.settings import Settings
from advunlearn.stages import estimate as module
from advunlearn.stages.budget import duration, remarks, table
from advunlearn.stages.clock import Clock, Pace
from advunlearn.stages.estimate import Estimate, Line, before_a_run, makespan
from advunlearn.storage.store import Store
from advunlearn.unlearners.unlearner import Task
from tests.test_run import read, without_seconds

QUICK = ["optimizer.epochs=2", "unlearner.epochs=1", "attack.shadows=2", "attack.stacked=false"]


class FakeClock:
    """A clock by which a step takes a hundredth of a second, in a group one for each network, and answers take none."""

    training = Pace(0.0, 0.01)
    answer = 0.0

    def __init__(self, trainer: Any) -> None:
        pass

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def together(self, size: int, steps: int, at_once: int, *, stacked: bool) -> float:
        return 0.01 * size * steps

    def unlearning(self, unlearner: Any, network: Callable[[], Any], task: Task, at_once: int = 0) -> float | None:
        kinds = unlearner.steps(task)
        return None if kinds is None else 0.01 * sum(kind.count for kind in kinds)


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Clock", FakeClock)


def lines_of(*overrides: str) -> dict[str, Line]:
    return {line.name: line for line in before_a_run(experiment_from(overrides)).estimate().lines}


def counts(line: Line) -> tuple[int, int, int]:
    return line.wanted, line.held, line.missing


@pytest.mark.usefixtures("fake_clock", "workplace")
def test_every_training_is_named_counted_and_timed() -> None:
    # 250 training examples in batches of 50, 200 without the forget set, 2 epochs; 2 at once of what is one by one
    words = [*QUICK, "threads=2", "auditor=likelihood_ratio", "attack=[lira,ulira]", "attack.originals=4"]
    estimate = before_a_run(experiment_from(words)).estimate()
    names = ["original", "retrained", "references", "unlearning", "shadow models", "references"]
    names += ["shadow originals", "unlearned shadow originals", "attacks, report"]
    assert [line.name for line in estimate.lines] == names
    lines = {line.name: line for line in estimate.lines}
    assert counts(lines["original"]) == counts(lines["retrained"]) == (1, 0, 1)
    assert lines["original"].seconds == pytest.approx(0.01 * 10)
    assert lines["retrained"].seconds == pytest.approx(0.01 * 8)
    assert lines["unlearning"].seconds == pytest.approx(0.01 * 4)
    assert counts(lines["shadow models"]) == (2, 0, 2)
    assert lines["shadow models"].seconds == pytest.approx(0.01 * 10)
    assert counts(lines["shadow originals"]) == (4, 0, 4)
    assert lines["shadow originals"].seconds == pytest.approx(2 * 0.01 * (10 + 8 + 8))
    assert counts(lines["unlearned shadow originals"]) == (4, 0, 4)
    assert lines["unlearned shadow originals"].seconds == pytest.approx(2 * 0.01 * 4)
    assert "ulira" in lines["shadow originals"].about


@pytest.mark.usefixtures("fake_clock", "workplace")
def test_stacks_are_whole() -> None:
    options = ["attack.shadows=6", "attack.stacked=true", "auditor=likelihood_ratio", "auditor.references=4"]
    lines = lines_of(*options)
    assert counts(lines["shadow models"]) == (6, 0, 16)
    assert counts(lines["references"]) == (4, 0, 16)


def test_what_the_store_holds_is_neither_counted_nor_timed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advunlearn.run([*QUICK, "attack=lira"])
    monkeypatch.setattr(Clock, "_pace", lambda *_, **__: pytest.fail("a step was timed"))
    whole = before_a_run(experiment_from([*QUICK, "attack=lira"])).estimate()
    assert [counts(line) for line in whole.lines] == [(1, 1, 0)] * 4
    assert whole.seconds == whole.ratio == 0
    monkeypatch.setattr(module, "Clock", FakeClock)
    lines = lines_of(*QUICK, "attack=lira", "attack.shadows=4", "unlearner.alpha=1")
    assert counts(lines["original"]) == (1, 1, 0)
    assert counts(lines["unlearning"]) == (1, 0, 1)
    assert counts(lines["shadow models"]) == (4, 2, 2)
    part = lines_of(*QUICK, "attack=lira", "attack.shadows=6", "attack.shard=3/3")
    assert list(part) == ["shadow models"]
    assert counts(part["shadow models"]) == (2, 0, 2)


def test_the_estimate_leaves_no_trace(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*QUICK, "attack=lira", "auditor=likelihood_ratio", "auditor.references=4"]
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    threads = torch.get_num_threads()
    experiment = experiment_from(words)
    estimator = before_a_run(experiment)
    torch.set_num_threads(threads)
    assert estimator.estimate().seconds > 0
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert not Store().root.exists()
    with_estimate = advunlearn.run(words, "with").metrics
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(workplace / "other"))
    monkeypatch.setattr("advunlearn.train.announce", lambda *_: None)
    without = advunlearn.run(words, "without").metrics
    for metrics in (with_estimate, without):
        del metrics["references_over_retraining"]  # which is a matter of seconds
    assert without_seconds(without) == without_seconds(with_estimate)


@pytest.mark.usefixtures("fake_clock", "workplace")
def test_several_gpus_divide_the_time_of_sets_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["attack=[lira,ulira]", "attack.shadows=8", "attack.originals=6", "attack.stacked=false", "workers=1"]
    alone = lines_of(*words)
    monkeypatch.setattr(Settings, "all_devices", lambda settings: [f"cuda:{number}" for number in range(4)])
    assert lines_of(*words)["shadow models"].seconds == alone["shadow models"].seconds  # workers=1 is one GPU
    several = lines_of(*words[:-1])
    for name, times in {"shadow models": 8 / 2, "shadow originals": 6 / 2, "unlearned shadow originals": 6 / 2}.items():
        assert several[name].seconds == pytest.approx(alone[name].seconds / times)
        assert several[name].about.endswith(", on 4 GPUs")
    assert several["original"] == alone["original"]
    assert lines_of(*words[:-1], "workers=2")["shadow models"].seconds == alone["shadow models"].seconds / 2


def test_real_timings_are_of_every_kind_of_work(workplace: Path) -> None:
    lines = lines_of(*QUICK, "attack=[lira,ulira]", "attack.originals=4", "attack.stacked=true")
    assert all(line.seconds is not None and line.seconds > 0 for line in lines.values())
    assert lines["shadow originals"].seconds > lines["shadow models"].seconds  # type: ignore[operator]


@pytest.mark.usefixtures("fake_clock", "workplace")
def test_retraining_takes_as_long_as_the_retrained_model_and_nothing_takes_no_time() -> None:
    lines = lines_of("attack=threshold", "unlearner=retrain")
    assert lines["unlearning"].seconds == lines["retrained"].seconds
    assert lines_of("attack=threshold", "unlearner=none")["unlearning"].seconds == 0


OWN = """
from dataclasses import dataclass
from advunlearn.unlearners.unlearner import Unlearned, Unlearner

@dataclass
class Own(Unlearner):
    def unlearn(self, network, task):
        return Unlearned(network)
"""


def test_an_unlearner_that_does_not_say_its_steps_is_unknown(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "own_estimate.py").write_text(OWN)
    (workplace / "conf" / "unlearner").mkdir(parents=True)
    (workplace / "conf" / "unlearner" / "own.yaml").write_text("_target_: own_estimate.Own\n")
    monkeypatch.syspath_prepend(str(workplace))
    assert main(["check", "--config-dir", "conf", "unlearner=own", "attack=threshold", "budget=1d"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("without unlearning, whose time is unknown")
    assert " unknown\n" in out


def test_audit_steps_are_counted_apart() -> None:
    experiment = experiment_from(["unlearner.epochs=3", "unlearner.audit_every=5", "unlearner.audit_size=30"])
    estimator = before_a_run(experiment)
    task = module.make_task(estimator.trainer, estimator.splits, estimator.splits.retain, estimator.splits.forget, None)
    base, audited = experiment.unlearner.steps(task)  # type: ignore[misc]
    assert (base.count, base.examples) == (12 - 3, 50)  # 4 batches, 3 epochs; audits at steps 0, 5 and 10
    assert (audited.count, audited.examples) == (3, 50 + 60)
    assert audited.unlearner.audit_every == 1  # type: ignore[attr-defined]


def test_check_downloads_nothing(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Cifar10, "load", lambda self: pytest.fail("the images were loaded"))
    words = ["dataset=cifar10", "dataset.train_size=100", "model=mlp", "model.hidden=8", "optimizer=sgd"]
    assert main(["check", *words, "attack=threshold"]) == 0
    assert "original         MLP" in capsys.readouterr().out
    assert list(workplace.iterdir()) == []
    assert not Store().root.parent.exists()


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_budget_is_a_duration(budget: str, seconds: float) -> None:
    assert Settings(budget=budget).budget_seconds() == seconds
    assert Settings().budget_seconds() == float("inf")


@pytest.mark.parametrize("budget", ["90", "2 weeks", "h", "-1h", "1.h"])
def test_a_bad_budget_is_a_mistake(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"budget='{budget}'"]) == 2
    wanted = f"error: budget must be a duration such as 90s, 30min, 2h or 1d, got {budget} (try budget=2h)\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.usefixtures("fake_clock")
def test_a_run_over_its_budget_does_not_start(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 1 original of 300 steps, 1 retrained of 240, the game of 120, 3.2 s of report: 9.8 s; 3 s a shadow model
    words = ["attack=lira", "attack.stacked=false", "threads=1", "unlearner.epochs=30", "optimizer.epochs=60"]
    with pytest.raises(ValueError, match=r"more than budget=40s; attack.shadows=8 would fit \(about 34 s\)$"):
        advunlearn.run([*words, "attack.shadows=64", "budget=40s"], "over")
    manifest = read(workplace / "over" / "manifest.json")
    assert manifest["status"] == "failed"
    assert "budget=40s" in manifest["error"]
    assert [stage["name"] for stage in manifest["stages"]] == ["data"]
    assert not Store().root.exists()
    assert main(["check", *words, "budget=1s"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(
        "error: the run would take about 6.6 min, more than budget=1s; with the fewest shadow models"
    )
    assert error.endswith("(try fewer optimizer.epochs)")
    assert main(["check", *words, "budget=1h"]) == 0


def test_a_run_whose_time_cannot_be_estimated_starts_unless_it_has_a_budget(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("too small a batch")

    monkeypatch.setattr(Clock, "_pace", fails)
    words = [*QUICK, "attack=threshold"]
    advunlearn.run(words)
    assert "the time of this run is unknown (RuntimeError: too small a batch)" in caplog.text
    with pytest.raises(ValueError, match=r"budget=1d: the time of this run is unknown"):
        advunlearn.run([*words, "seed=1", "budget=1d"])


def test_a_budget_changes_no_result() -> None:
    assert Settings(budget="2h").identity() == Settings().identity()


def test_the_log_says_what_a_run_will_train(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        folder = advunlearn.run([*QUICK, "attack=lira"]).folder
    (line,) = (text for text in caplog.messages if text.startswith("estimate: "))
    for part in ("1 original", "1 retrained", "1 unlearning", "2 shadow models"):
        assert part in line
    parts = read(folder / "manifest.json")["estimate"]["parts"]
    assert list(parts) == ["original", "retrained", "unlearning", "shadow models", "attacks, report"]
    json.dumps(parts, allow_nan=False)


def test_a_cpu_is_told_of_the_experiment_for_it() -> None:
    long = Estimate([Line("unlearning", "", 1, 0, 1, 7200.0)], retraining=3600.0)
    whole = experiment_from(["dataset=cifar10", "device=cpu"])
    assert remarks(whole, long) == [
        "unlearning is estimated to take 2.0 times as long as retraining",
        "this setting is made for a GPU; on a CPU, try experiment=cifar10_cpu",
    ]
    assert remarks(experiment_from(["experiment=cifar10_cpu", "device=cpu"]), long)[1:] == []
    assert remarks(experiment_from(["device=cpu"]), long)[1:] == []


def test_check_counts_the_runs_of_a_sweep(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Clock", FakeClock)
    assert main(["check", "-m", "seed=1,2,3", "unlearner=sg,none", "attack=threshold"]) == 0
    assert "this is the first of 6 runs" in capsys.readouterr().out


def test_the_last_worker_decides() -> None:
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([], 0) == 0
    assert makespan([1, 1], 1) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (119, "119 s"),
        (300, "5 min"),
        (9000, "2.5 h"),
        (864000, "10 days"),
    ],
)
def test_durations_are_in_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_is_aligned() -> None:
    lines = [Line("original", "a network", 1, 0, 1, 2.0), Line("unlearning", "Own", 1, 0, 1, None)]
    head, first, second, total = table(Estimate(lines)).splitlines()
    assert len(head) == len(first) == len(second)
    assert total == "total: about 2.0 s without unlearning, whose time is unknown"


@pytest.mark.usefixtures("fake_clock", "workplace")
def test_further_audits_are_counted_only_if_they_are_asked_for() -> None:
    words = [*QUICK, "attack=threshold", "unlearner=finetune", "unlearner.epochs=1"]
    assert "relearning" not in lines_of(*words)
    lines = lines_of(*words, "audits.relearning=3", "audits.swap=true")
    assert counts(lines["relearning"]) == (3, 0, 3)
    assert lines["relearning"].seconds == pytest.approx(3 * 0.01 * 12)  # 3 models, 4 batches an epoch
    assert counts(lines["swap"]) == (1, 0, 1)
    assert lines["swap"].seconds == pytest.approx(0.01 * 10 + lines["unlearning"].seconds)
