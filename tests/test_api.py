"""The Python interface: its docstrings' examples, and what it refuses."""

from __future__ import annotations

import doctest
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn import api
from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.threshold import Threshold
from advunlearn.auditors.logistic import Logistic
from advunlearn.options import ConfigError, option
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner

Part = tuple[torch.Tensor, torch.Tensor]


def blobs(count: int, seed: int) -> Part:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, 20, generator=generator) + 0.3 * labels[:, None], labels


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 3))


@pytest.mark.parametrize(
    "function", [api.run, api.unlearn, api.audit, api.compare], ids=lambda function: function.__name__
)
def test_the_docstrings_examples_run(workplace: Path, function: object) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    (test,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
    assert test.examples
    assert runner.run(test).failed == 0


def test_a_persons_own_model_is_unlearned_and_audited() -> None:
    network = model()
    retain, forget, audit, test = blobs(90, 0), blobs(45, 1), blobs(60, 2), blobs(300, 3)
    inputs, labels = torch.cat([retain[0], forget[0]]), torch.cat([retain[1], forget[1]])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parts = {"retain": retain, "forget": forget, "audit": audit}
    unlearned = advunlearn.unlearn(network, **parts, method="sg", alpha=3.0, epochs=30)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    aucs = [
        advunlearn.audit(each, forget=forget, test=test, attacks=["threshold", "classifier"])["threshold"]["auc"]
        for each in (network, advunlearn.unlearn(network, **parts, method="finetune", epochs=30), unlearned)
    ]
    assert aucs[0] > 0.7
    assert aucs[2] < aucs[1] - 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "sgg"}, "^method=sgg: no such option"),
        ({"alpha": -1}, "^alpha must be at least 0"),
        ({"alhpa": 1}, "^alhpa: no such option"),
        ({"device": "gpu"}, "device must be one of"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    parts = {name: blobs(9, 0) for name in ("retain", "forget", "audit")}
    with pytest.raises(ConfigError, match=words):
        advunlearn.unlearn(model(), **parts, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ((torch.zeros(3, 20), torch.zeros(4).long()), "must be .inputs, labels. of one length, got 3 and 4"),
        ((torch.zeros(0, 20), torch.zeros(0).long()), "must hold at least one example, got none"),
        ((torch.zeros(3, 20), torch.zeros(3)), "labels must be whole numbers"),
    ],
)
def test_bad_tensors_are_refused(part: Part, words: str) -> None:
    with pytest.raises(ValueError, match=f"forget.*{words}"):
        advunlearn.audit(model(), forget=part, test=blobs(9, 0))


def test_the_same_seed_gives_the_same_bits_with_dropout_and_modes_come_back() -> None:
    network = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.Dropout(), nn.Linear(32, 3))
    network[1].eval()
    parts = {"retain": blobs(51, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    first, second = (advunlearn.unlearn(network, **parts, epochs=2) for _ in range(2))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])
    assert [part.training for part in first.network] == [True, False, True, True]


def test_the_best_epoch_needs_examples_to_choose_it_on() -> None:
    parts = {"retain": blobs(51, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    chosen = advunlearn.unlearn(model(), **parts, selection=blobs(30, 3), keep_epoch="best", epochs=2)
    assert chosen.network(torch.zeros(2, 20)).shape == (2, 3)
    with pytest.raises(ValueError, match="keep_epoch=best needs a selection set"):
        advunlearn.unlearn(model(), **parts, keep_epoch="best", epochs=2)


def test_arrays_and_one_attack_by_its_name_are_taken() -> None:
    forget, test = (tuple(each.numpy() for each in blobs(30, seed)) for seed in (0, 1))
    assert list(advunlearn.audit(model(), forget=forget, test=test, attacks="classifier")) == ["classifier"]


def test_what_needs_a_training_setup_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^lira trains models to compare with: use advunlearn\.compare with train=$"):
        advunlearn.audit(model(), forget=blobs(9, 0), test=blobs(9, 1), attacks=["lira"])
    parts = {"retain": blobs(9, 0), "forget": blobs(9, 1), "audit": blobs(9, 2)}
    with pytest.raises(ValueError, match="needs a training setup"):
        advunlearn.unlearn(model(), **parts, method="retrain")


def test_a_run_returns_what_it_wrote(workplace: Path) -> None:
    result = advunlearn.run(["optimizer.epochs=3", "unlearner.epochs=1", "attack=threshold"], "mine")
    assert result.folder == Path("mine")
    assert np.isfinite(result.metrics["models"]["unlearned"]["loss_ks"])
    assert result.network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import advunlearn, sys; assert 'torch' not in sys.modules and advunlearn.__version__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_auditor_with_reference_models_needs_a_training_setup() -> None:
    parts = {"retain": blobs(30, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    with pytest.raises(ValueError, match=r"needs reference models, which need a training setup: use advunlearn.run"):
        advunlearn.unlearn(model(), **parts, auditor="likelihood_ratio")


def test_attacks_compare_with_the_examples_that_are_given() -> None:
    parts = {"forget": blobs(30, 0), "test": blobs(60, 1)}
    found = advunlearn.audit(
        model(), **parts, retain=blobs(60, 2), population=blobs(60, 3), attacks=["population", "mia_efficacy"]
    )
    assert set(found) == {"population", "mia_efficacy"}
    for name, needed in {"population": "population", "mia_efficacy": "retain"}.items():
        with pytest.raises(ValueError, match=f"^{name} compares with other examples: give {needed}=, "):
            advunlearn.audit(model(), **parts, attacks=name)


def test_an_unlearner_and_its_auditor_are_taken_as_objects() -> None:
    parts = {"retain": blobs(30, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    by_name = advunlearn.unlearn(model(), **parts, method="sg", alpha=2.0, epochs=2, auditor="logistic")
    game = SG(lr=0.01, momentum=0.9, batch_size=50, alpha=2.0, epochs=2, auditor=Logistic())
    by_object = advunlearn.unlearn(model(), **parts, method=game)
    nested = advunlearn.unlearn(model(), **parts, method="sg", alpha=2.0, epochs=2, auditor=Logistic())
    for other in (by_object, nested):
        assert all(map(torch.equal, by_name.network.parameters(), other.network.parameters()))


@dataclass
class Shrink(Unlearner):
    """Multiply all weights by a factor."""

    factor: float = option(0.5, above=0)

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        with torch.no_grad():
            for weight in network.parameters():
                weight *= self.factor
        return Unlearned(network)


@dataclass
class First(Attack):
    """Score examples by their first logit."""

    def score(
        self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {"": target.logits[:, 0, 0].astype(float)}


def test_own_classes_are_taken_as_objects() -> None:
    parts = {"retain": blobs(30, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    shrunk = advunlearn.unlearn(model(), **parts, method=Shrink(0.25))
    assert torch.equal(shrunk.network[0].weight, model()[0].weight * 0.25)
    forget, test = blobs(30, 0), blobs(30, 1)
    found = advunlearn.audit(model(), forget=forget, test=test, attacks=["threshold", First()])
    assert [name for name in found if "/" not in name] == ["threshold", "First"]
    with torch.no_grad():
        ours, others = (model()(inputs)[:, 0].numpy() for inputs in (forget[0], test[0]))
    greater = (ours[:, None] > others).mean()
    assert found["First"]["auc"] == pytest.approx(greater)
    alone = advunlearn.audit(model(), forget=forget, test=test, attacks=Threshold())
    assert alone == {name: metrics for name, metrics in found.items() if name != "First"}


def test_objects_are_refused_where_they_do_not_fit() -> None:
    parts = {"retain": blobs(30, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    with pytest.raises(ValueError, match=r"factor: give the options to Shrink\(...\) itself"):
        advunlearn.unlearn(model(), **parts, method=Shrink(), factor=0.1)
    with pytest.raises(ConfigError, match=r"^auditor: no such option"):
        advunlearn.unlearn(model(), **parts, method="finetune", auditor=Logistic())
    with pytest.raises(ValueError, match="auditor must be an Auditor"):
        advunlearn.unlearn(model(), **parts, auditor=Threshold())
    with pytest.raises(ValueError, match="threshold is given twice"):
        advunlearn.audit(model(), forget=blobs(9, 0), test=blobs(9, 1), attacks=["threshold", Threshold()])


def test_another_auditor_is_chosen_by_its_name() -> None:
    parts = {"retain": blobs(30, 0), "forget": blobs(12, 1), "audit": blobs(12, 2)}
    networks = [advunlearn.unlearn(model(), **parts, epochs=2, auditor=name) for name in ("svm", "logistic")]
    assert not torch.equal(*(each.network[0].weight for each in networks))
