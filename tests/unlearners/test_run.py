"""`Unlearner.run`: the parts of the data that it withholds, and networks that unlearning ruins."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.options import UserError
from advunlearn.report.run.table import notes
from advunlearn.runtime import memory
from advunlearn.runtime.memory import PeakMemory
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import PARTS, Task, Unlearned, Unlearner, ordered
from tests.report.runs import metrics
from tests.unlearners.tasks import examples, memorised, mlp, same, task


@dataclass
class Peek(Unlearner):
    """Look at some parts of the data."""

    parts: Any = PARTS

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network as it is."""
        for part in self.parts:
            assert len(getattr(task, part).labels) > 0
        return Unlearned(network)


@dataclass
class Modest(Peek):
    """Declare what it looks at."""

    reads: ClassVar[tuple[str, ...]] = ("retain",)


def test_a_method_that_declares_nothing_may_read_everything() -> None:
    assert Peek().parts_read() == PARTS
    Peek().run(mlp(), task(selection=examples(9, 3)))


@pytest.mark.parametrize("part", PARTS)
def test_any_use_of_a_part_that_is_not_declared_is_an_error_of_one_line(part: str) -> None:
    given = task(selection=examples(9, 3))
    if part == "retain":
        Modest(parts=[part]).run(mlp(), given)
        return
    with pytest.raises(UserError, match=rf"^Modest does not read the {part} set \(if it is to, add '{part}' to its"):
        Modest(parts=[part]).run(mlp(), given)


def test_the_game_reads_what_its_base_reads_and_the_audit_set() -> None:
    assert SG().parts_read() == ("retain", "forget", "audit")
    assert SG(keep_epoch="best").parts_read() == PARTS
    assert Finetune().parts_read() == ("retain",)
    assert Finetune(keep_epoch="best").parts_read() == ("retain", "forget", "selection")
    assert ordered({"selection", "retain"}) == ("retain", "selection")


@dataclass
class Wreck(Unlearner):
    """Predict one class for all examples."""

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return a network that predicts class 0."""
        with torch.no_grad():
            network[-1].weight.zero_()  # type: ignore[index, union-attr, operator]
        return Unlearned(network)


def test_a_collapse_is_said_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    wrecked = Wreck().run(memorised(mlp(), [examples(60, 0)]), task())
    assert wrecked.trace == {"collapsed": True}
    assert "fell from 1.000 to 0.333; one class for all reaches 0.333" in caplog.text


def test_a_network_that_knew_nothing_or_still_knows_has_not_collapsed(caplog: pytest.LogCaptureFixture) -> None:
    wrecked = Wreck().run(mlp(), task()).network
    with caplog.at_level(logging.WARNING):
        assert Wreck().run(wrecked, task()).trace == {}
        known = memorised(mlp(), [examples(60, 0)])
        assert same(Finetune(epochs=1, lr=1e-30).run(known, task()).network, known)
    assert caplog.text == ""


def lines(**changes: Any) -> list[str]:
    found: Metrics = {**metrics({"loss": 0.1}), **changes}  # type: ignore[typeddict-item]
    return [line for line in notes(found) if line.startswith("unlearning") and " times " not in line]


def test_the_report_says_what_was_read_and_needed_and_whether_the_model_is_wrecked() -> None:
    needed = {"reads": ["retain", "forget"], "peak_memory": 310_000_000, "device": "cuda"}
    assert lines(unlearning=needed) == ["unlearning: reads retain, forget; 1 s; peak memory 310 MB"]
    (on_cpu,) = lines(unlearning={**needed, "reads": [], "device": "cpu"})
    assert on_cpu == "unlearning: reads no data; 1 s; growth of the process's peak memory 310 MB"
    assert lines(unlearning={**needed, "peak_memory": None}) == ["unlearning: reads retain, forget; 1 s"]
    assert lines(trace={"collapsed": True}) == [
        "unlearning collapsed: the unlearned model is no better on retain examples than one class for all"
    ]
    assert lines() == []


def test_the_peak_memory_on_the_cpu_is_the_growth_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([5_000, 12_000])
    monkeypatch.setattr(memory, "process_peak", lambda: next(peaks))
    with PeakMemory(torch.device("cpu")) as measured:
        pass
    assert measured.bytes == 7_000
    monkeypatch.undo()
    assert 2**20 < memory.process_peak() < 2**40
