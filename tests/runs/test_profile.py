"""`profile=true`: traces that viewers open, of the stages that computed something; no number changes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import advunlearn
from advunlearn.options import UserError
from advunlearn.runs import profile
from advunlearn.runs.profile import Profile, self_times
from advunlearn.runtime import profiling
from advunlearn.runtime.profiling import SKIPPED, STEPS, TRAININGS, Recording
from advunlearn.runtime.workers import run_tasks
from advunlearn.training.fit import Diverged

CPU = torch.device("cpu")
QUICK = ["device=cpu", "threads=1", "attack=lira", "attack.shadows=4", "attack.stacked=false", "optimizer.epochs=6"]
GAME = ["unlearner.epochs=2"]
TRAINED = {"pretrain": ["original"], "retrain": ["retrained"], "unlearn": ["unlearn"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of the same run without a profile, with one, and again with another unlearner."""
    root = tmp_path_factory.mktemp("profile")
    with pytest.MonkeyPatch.context() as patch:
        for name, cache, words in (
            ("plain", "one", GAME),
            ("profiled", "two", [*GAME, "profile=true"]),
            ("again", "two", ["unlearner=none", "profile=true"]),
        ):
            patch.setenv("ADVUNLEARN_CACHE", str(root / cache))
            with patch.context() as plain:
                if name == "plain":  # it costs nothing: torch's profiler is never made
                    plain.delattr(torch.profiler, "profile")
                advunlearn.run([*QUICK, *words], root / name)
    return {name: root / name for name in ("plain", "profiled", "again")}


def read_trace(folder: Path, stage: str) -> dict[str, Any]:
    with gzip.open(folder / "profile" / f"{stage}.json.gz", "rt", encoding="utf-8") as file:
        trace: dict[str, Any] = json.load(file)
    return trace


def stages_in(folder: Path) -> set[str]:
    return {path.name.removesuffix(".json.gz") for path in (folder / "profile").glob("*.json.gz")}


def steps_in(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the numbers of the recorded steps of each training."""
    found: dict[str, list[int]] = {}
    for event in events:
        if event.get("cat") == "user_annotation" and ": step " in event["name"]:  # torch names those of optimizers
            name, number = event["name"].split(": step ")
            found.setdefault(name, []).append(int(number))
    return found


def test_a_profile_changes_no_bit(runs: dict[str, Path]) -> None:
    for name in ("unlearned.safetensors", "scores.npz", "splits.npz"):
        assert (runs["plain"] / name).read_bytes() == (runs["profiled"] / name).read_bytes(), name
    plain, profiled = (json.loads((runs[each] / "metrics.json").read_text()) for each in ("plain", "profiled"))
    assert plain["models"] == profiled["models"]
    assert plain["gap"] == profiled["gap"]
    assert not (runs["plain"] / "profile").exists()


@pytest.mark.parametrize("stage", [*TRAINED, "attack"])
def test_a_trace_is_in_the_format_of_chrome_and_holds_the_steps_of_its_stage(runs: dict[str, Path], stage: str) -> None:
    events = read_trace(runs["profiled"], stage)["traceEvents"]
    assert {"X", "M"} <= {event["ph"] for event in events} <= set("XMBEbeinsftC")
    operations = [event for event in events if event.get("cat") == "cpu_op"]
    assert all(event["ts"] > 0 and event["dur"] >= 0 and event["name"] for event in operations)
    assert {"aten::addmm", "aten::_fused_adamw_" if stage != "unlearn" else "aten::add_"} <= {
        event["name"] for event in operations
    }
    steps = steps_in(events)
    expected = TRAINED.get(stage, [f"shadow {index}" for index in range(TRAININGS)])
    assert list(steps) == expected
    numbers = list(range(SKIPPED + 1, SKIPPED + STEPS + 1))
    assert all(each == numbers[: len(each)] and each for each in steps.values())
    if stage != "unlearn":  # which has 8 steps
        assert all(each == numbers for each in steps.values())
        # Every step of a training is one of its optimizer; a step outside the recorded ones would add another.
        updates = [event for event in operations if event["name"] == "aten::_fused_adamw_"]
        assert len(updates) == STEPS * len(expected)


def test_a_table_says_what_its_trace_says(runs: dict[str, Path]) -> None:
    events = read_trace(runs["profiled"], "retrain")["traceEvents"]
    text = (runs["profiled"] / "profile" / "retrain.txt").read_text(encoding="utf-8")
    assert f"steps of trainings: {STEPS} of retrained\n" in text
    rows = re.findall(r"^(\S.{49}) +(\d+) +([\d.]+) +([\d.]+)% +([\d.]+)$", text, re.MULTILINE)
    assert 10 <= len(rows) <= profile.ROWS
    own = [float(row[2]) for row in rows]
    assert own == sorted(own, reverse=True)
    for name, calls, _, _, milliseconds in rows:
        named = [
            event["dur"] for event in events if event.get("cat") == "cpu_op" and event["name"][:50] == name.strip()
        ]
        assert len(named) == int(calls)
        assert float(milliseconds) == pytest.approx(sum(named) / 1e3, abs=0.006)


def test_what_comes_from_the_store_has_no_trace_and_is_said(runs: dict[str, Path]) -> None:
    assert {"pretrain", "retrain", "unlearn", "attack"} <= stages_in(runs["profiled"])
    assert not {"pretrain", "retrain"} & stages_in(runs["again"])
    assert "attack" in stages_in(runs["again"])  # of another model, with the same shadow models
    assert not steps_in(read_trace(runs["again"], "attack")["traceEvents"])
    log = (runs["again"] / "advunlearn.log").read_text(encoding="utf-8")
    assert "profile: pretrain, retrain came from the store, so there was nothing to record" in log
    assert "came from the store" not in (runs["profiled"] / "advunlearn.log").read_text(encoding="utf-8")


def test_own_time_is_without_what_is_called() -> None:
    def event(start: float, length: float, thread: int = 1) -> dict[str, Any]:
        return {"ts": start, "dur": length, "pid": 0, "tid": thread}

    # A call of two, the second of which calls another; on another thread, one at the same time; then one more.
    events = [event(0, 10), event(1, 2), event(4, 5), event(5, 1), event(2, 4, thread=2), event(10, 3)]
    assert self_times(events) == [10 - 2 - 5, 2, 5 - 1, 1, 4, 3]


def test_a_trace_that_is_too_large_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(profile, "EVENTS", 40)
    found = Profile(tmp_path, CPU)
    recording = found.begin()
    for _ in range(100):
        torch.sin(torch.ones(1))
    recording.end()
    with caplog.at_level("INFO"):
        found.write("stage", recording, 1.0, reused=False)
    assert len(read_trace(tmp_path, "stage")["traceEvents"]) == 40
    assert re.search(r"stage\.json\.gz has the first 40 of \d{3,} events", caplog.text)


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_workers_are_not_recorded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("advunlearn.runtime.workers.forks", lambda: kind == "processes")
    recording = Recording(CPU)
    recording.begin()
    assert sorted(run_tasks([partial(task, index) for index in range(2)], 2)) == [(0, False), (1, False)]
    torch.tan(torch.ones(1))
    recording.end()
    names = {event["name"] for event in profile.read_events(recording.parts)[0]}
    assert "aten::tan" in names
    assert "aten::cos" not in names
    assert recording.elsewhere == 2


def task(number: int) -> tuple[int, bool]:
    with profiling.training("task") as step:
        step()
        torch.cos(torch.ones(1))
    return number, torch.autograd._profiler_enabled()


def test_a_training_that_fails_leaves_no_profiler(workplace: Path) -> None:
    with pytest.raises(Diverged):
        advunlearn.run([*QUICK, "profile=true", "optimizer=sgd", "optimizer.lr=1e30"], workplace / "run")
    assert not torch.autograd._profiler_enabled()
    assert profiling._recording is None
    assert stages_in(workplace / "run") <= {"data"}


def test_a_training_that_is_left_after_the_recording_starts_nothing() -> None:
    recording = Recording(CPU)
    recording.begin()
    with recording.training("left") as step:
        step()
        recording.end()
    assert not torch._C._autograd._profiler_enabled()


def test_another_profiler_is_refused_in_one_line(workplace: Path) -> None:
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
        pytest.raises(UserError, match=r"^profile=true: another profiler records in this thread") as refused,
    ):
        advunlearn.run([*QUICK, "profile=true"], workplace / "run")
    assert "\n" not in str(refused.value)


def test_the_same_command_again_says_that_nothing_was_recorded(command: Callable[..., Any], workplace: Path) -> None:
    words = ["run", *QUICK, *GAME, "attack=threshold", "profile=true"]
    first, again = command(*words), command(*words)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "open a trace" not in first.stderr + first.stdout
    assert "https://ui.perfetto.dev opens a trace" in first.stderr + first.stdout
    assert "came from the store, so there was nothing to record" in again.stderr + again.stdout
