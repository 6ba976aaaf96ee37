"""One row to forget: what the game and the attacks can do with it, they say."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

import advunlearn
from tests.jobs.conftest import Cli

QUICK = ["optimizer.epochs=3", "unlearner.epochs=1", "attack.shadows=4", "forget=indices", "forget.path=row.txt"]


@pytest.fixture(scope="module", autouse=True)
def row(folder: Path) -> None:
    (folder / "row.txt").write_text("7\n", encoding="utf-8")


def test_by_the_command_line(cli: Cli) -> None:
    printed, found = cli(*QUICK, into="svm")
    (line,) = (line for line in printed.splitlines() if "the game equals its base" in line)
    assert "one forget example: the auditor SVM cannot be fitted on one" in line
    assert "the attack classifier is left out: attack.classifier.folds=5 needs as many members" in printed
    attacks = found["models"]["unlearned"]["attacks"]
    assert [name for name in attacks if "/" not in name] == ["threshold", "lira"]
    assert attacks["lira"]["members"] == 1
    assert attacks["threshold"]["auc_high"] - attacks["threshold"]["auc_low"] > 0.9  # one example says nearly nothing
    assert found["models"]["retrained"]["accuracy"]["forget"] in (0, 1)
    assert set(found["trace"]["utility"]) == {found["trace"]["uninformed_utility"]}


def test_an_auditor_with_reference_models_plays_it(cli: Cli) -> None:
    words = ["auditor=likelihood_ratio", "auditor.references=4", "attack=threshold"]
    printed, found = cli(*QUICK, *words, into="likelihood_ratio")
    assert "the game equals its base" not in printed
    assert max(found["trace"]["game_gradient_norm"]) > 0


def test_in_python(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.arange(120) % 3
    inputs = torch.randn(120, 6, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    forget = inputs[:1], labels[:1]
    test = inputs[80:], labels[80:]
    retain, audit = (inputs[1:50], labels[1:50]), (inputs[50:80], labels[50:80])
    with caplog.at_level(logging.WARNING):
        unlearned = advunlearn.unlearn(nn.Linear(6, 3), retain=retain, forget=forget, audit=audit, epochs=1)
        found = advunlearn.audit(unlearned, forget=forget, test=test)
    assert "the game equals its base, Finetune" in caplog.text
    assert "the attack classifier is left out" in caplog.text
    assert found["threshold"]["members"] == 1
    assert found["threshold"]["nonmembers"] == int((test[1] == labels[0]).sum())
    with pytest.raises(ValueError, match=r"^classifier\.folds=5 needs as many members and non-members, got 1$"):
        advunlearn.audit(unlearned, forget=forget, test=test, attacks="classifier")
