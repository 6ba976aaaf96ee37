"""A run that was interrupted reports the times of an unbroken one; the clock here counts the steps of trainings."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from advunlearn.cli import main
from advunlearn.shadows.model_set import STACK
from advunlearn.training import checkpoint as module
from advunlearn.training.checkpoint import Checkpoint

WORDS = [
    "threads=1",  # no worker processes, which would have clocks of their own
    "optimizer.epochs=4",
    "unlearner.epochs=1",
    "unlearner.batch_size=20",
    "unlearner.audit_every=5",
    "attack=[lira,ulira]",
    "attack.shadows=16",
    "attack.originals=4",
    "attack.stacked=true",
    "model.hidden=8",
]


class Clock:
    """Count a second for each step, and interrupt the run in the middle of one training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.steps: list[str] = []
        self.target, self.left, self.interrupt = "", 0, terminate
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: self.now))
        step = Checkpoint.step

        def counted(checkpoint: Checkpoint, state: Callable[[], Any]) -> None:
            name = str(checkpoint.folder).partition("checkpoints")[2]
            self.now += 1
            self.steps.append(name)
            self.left -= name == self.target
            if self.left == 0 and name == self.target:
                self.interrupt()
            step(checkpoint, state)

        monkeypatch.setattr(Checkpoint, "step", counted)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill() -> None:
    """End the run as `kill -9` does: nothing is written after the last checkpoint."""
    raise KeyboardInterrupt


def times(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())
    seconds = {name: each for name, each in metrics["seconds"].items() if name != "attack"}  # of the real clock
    return {**seconds, "ratio": metrics["unlearning_over_retraining"]}


@pytest.mark.parametrize(("interrupt", "every"), [(terminate, 1e9), (kill, 3)], ids=["signal", "kill"])
def test_an_interrupted_run_reports_the_times_of_an_unbroken_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], None], every: float
) -> None:
    monkeypatch.setattr("advunlearn.train.announce", lambda *_: None)  # the estimate, which is of the real clock
    clock = Clock(monkeypatch)
    words = [*WORDS, f"checkpoint_seconds={every}"]
    assert main(["run", *words, "hydra.run.dir=unbroken"]) == 0
    trainings = Counter(clock.steps)
    names = list(trainings)
    original, retrained, unlearned, shadows = names[:4]
    stacks, unlearnings = names[4:7], names[7:]
    assert len(unlearnings) == STACK
    assert min(trainings.values()) > 9  # so that a checkpoint every three steps was written before the interruption
    assert times(workplace / "unbroken") == pytest.approx(
        {
            "pretrain": trainings[original],
            "retrain": trainings[retrained],
            "unlearn": trainings[unlearned],
            # Four originals of a stack of 16, which is paid for whole.
            "shadows": trainings[shadows] + sum(trainings[name] for name in stacks) + 16 * trainings[unlearnings[0]],
            "ratio": trainings[unlearned] / trainings[retrained],
        }
    )

    monkeypatch.setenv("ADVUNLEARN_CACHE", str(workplace / "other"))
    clock.interrupt = interrupt
    places = [original, unlearned, shadows]
    if interrupt is terminate:  # and besides: a second time the same training, and shadow originals
        places = [original, *places, stacks[1], unlearnings[2]]
    command = ["run", *words, "hydra.run.dir=broken"]
    for place in places:
        clock.target, clock.left = place, trainings[place] // 3 + 2
        with suppress(KeyboardInterrupt):
            assert main(command) != 0
        assert clock.left == 0
        command = ["resume", "broken"]
    clock.target = ""
    assert main(command) == 0
    assert times(workplace / "broken") == pytest.approx(times(workplace / "unbroken"))
    manifest = json.loads((workplace / "broken" / "manifest.json").read_text())
    last = [attempt["stages"][-1] for attempt in manifest["attempts"]]
    stages = {original: "pretrain", unlearned: "unlearn"}
    assert [stage["name"] for stage in last] == [stages.get(place, "attack") for place in places]
    assert not any(stage["completed"] for stage in last)
    assert all(stage["completed"] for stage in manifest["stages"])
    assert all(attempt["seconds"] > 0 for attempt in manifest["attempts"])
