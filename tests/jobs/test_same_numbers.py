"""The command line and the Python interface give the same numbers, to the bit on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.report.run.result import Result
from advunlearn.stages.estimate import before_a_run

OPTIONS = {"lr": 0.01, "epochs": 2, "batch_size": 40, "alpha": 2.0, "audit_every": 2}
ATTACKS = ["threshold", "gradient_norm"]
MODELS = {"mlp": ["model=mlp"], "cnn": ["model=cnn", "model.width=8", "channels_last=false"]}
QUICK = ["dataset.train_size=100", "optimizer.epochs=4", "recipe=none", "threads=1", "device=cpu"]
QUICK += [f"attack=[{','.join(ATTACKS)}]", *(f"unlearner.{name}={value}" for name, value in OPTIONS.items())]


@pytest.fixture(scope="module", params=MODELS)
def both(folder: Path, request: pytest.FixtureRequest) -> tuple[Result, dict[str, Any], Any]:
    """Give a run, the parts of its data as the network takes them, and what the interface makes of the original."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    words = [*QUICK, *MODELS[request.param]]
    found = advunlearn.run(words, request.param)
    examples = before_a_run(experiment_from(words)).trainer.examples
    parts = {name: next(examples.subset(rows).batches(len(rows))) for name, rows in vars(found.splits).items()}
    needed = {name: parts[name] for name in ("retain", "forget", "audit", "selection")}
    unlearned = advunlearn.unlearn(found.networks["original"], **needed, method="sg", device="cpu", **OPTIONS)
    torch.set_num_threads(threads)
    return found, parts, unlearned


def test_unlearned_weights(both: tuple[Result, dict[str, Any], Any]) -> None:
    found, _, unlearned = both
    assert found.folder is not None
    stored: dict[str, Tensor] = load_file(found.folder / "unlearned.safetensors")
    own = unlearned.network.state_dict()
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[name], own[name]) for name in stored)
    assert unlearned.trace["utility"] == found.metrics["trace"]["utility"]


def test_attacks(both: tuple[Result, dict[str, Any], Any]) -> None:
    found, parts, unlearned = both
    given = {name: parts[name] for name in ("forget", "test", "retain")}
    attacks = advunlearn.audit(unlearned, **given, population=parts["selection"], attacks=ATTACKS, device="cpu")
    expected = found.metrics["models"]["unlearned"]["attacks"]
    assert attacks == {name: expected[name] for name in attacks}
    assert expected.keys() == attacks.keys()


def test_comparison(both: tuple[Result, dict[str, Any], Any]) -> None:
    found, parts, unlearned = both
    compared = advunlearn.compare(
        original=found.networks["original"],
        retrained=found.networks["retrained"],
        unlearned=unlearned,
        **parts,
        attacks=ATTACKS,
        device="cpu",
    )
    assert compared.metrics["models"] == found.metrics["models"]
    assert compared.metrics["gap"] == found.metrics["gap"]
