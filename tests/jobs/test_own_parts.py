"""An unlearner and a white-box attack of one's own, by the command line and in Python."""

from __future__ import annotations

import importlib
import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import nn

import advunlearn
from advunlearn.cli import main
from tests.jobs.conftest import Cli

CODE = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from advunlearn.attacks.attack import Attack
from advunlearn.options import option
from advunlearn.unlearners.unlearner import Unlearned, Unlearner


@dataclass
class Shrink(Unlearner):
    factor: float = option(0.9, above=0, at_most=1)

    def unlearn(self, network, task):
        for weight in network.parameters():
            weight.data *= self.factor
        return Unlearned(network)


@dataclass
class InputGradient(Attack):
    needs_network: ClassVar[bool] = True

    def score(self, target, shadows, rng):
        norms = []
        for inputs, labels in target.white_box.examples.batches(100):
            inputs.requires_grad_()
            losses = functional.cross_entropy(target.white_box.network(inputs), labels, reduction="none")
            (gradients,) = torch.autograd.grad(losses.sum(), inputs)
            norms.append(gradients.flatten(1).norm(dim=1))
        return {"": -torch.cat(norms).double().numpy()}
"""


@pytest.fixture(scope="module")
def mine(folder: Path) -> Path:
    """Write the person's code and the YAML files of its parts."""
    (folder / "ourmethods.py").write_text(CODE, encoding="utf-8")
    for path, text in {
        "unlearner/shrink.yaml": "# scale every weight down\n_target_: ourmethods.Shrink\nfactor: 0.9\n",
        "attack/input_gradient.yaml": "# @package attack.input_gradient\n# gradient of the input\n"
        "_target_: ourmethods.InputGradient\n",
    }.items():
        (folder / "my" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "my" / path).write_text(text, encoding="utf-8")
    return folder / "my"


def test_by_the_command_line(cli: Cli, mine: Path) -> None:
    words = ["--config-dir", "my", "unlearner=shrink", "unlearner.factor=0.5", "optimizer.epochs=5"]
    _, found = cli(*words, "attack=[threshold,input_gradient]", into="own")
    own = {name: model["attacks"]["input_gradient"]["auc"] for name, model in found["models"].items()}
    assert own["unlearned"] != own["original"]
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["list", "--config-dir", "my", "unlearner"]) == 0
    assert "scale every weight down" in printed.getvalue()


def test_in_python_by_name_and_as_objects(mine: Path) -> None:
    labels = torch.arange(120) % 3
    inputs = torch.randn(120, 6, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    parts = {"retain": (inputs[:40], labels[:40]), "forget": (inputs[40:60], labels[40:60])}
    network, test = nn.Linear(6, 3), (inputs[80:], labels[80:])
    methods = importlib.import_module("ourmethods")
    audit = inputs[60:80], labels[60:80]
    named = advunlearn.unlearn(network, **parts, audit=audit, method="shrink", factor=0.5, config_dir=mine)
    given = advunlearn.unlearn(network, **parts, audit=audit, method=methods.Shrink(0.5))
    for each in (named, given):
        assert torch.equal(each.network.weight, network.weight * 0.5)
    by_name = advunlearn.audit(network, forget=parts["forget"], test=test, attacks="input_gradient", config_dir=mine)
    by_object = advunlearn.audit(network, forget=parts["forget"], test=test, attacks=methods.InputGradient())
    assert by_name["input_gradient"] == by_object["InputGradient"]
