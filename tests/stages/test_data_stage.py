"""What `check` passes, runs: data, networks and options that do not fit are refused by both, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.models.mlp import MLP
from advunlearn.options import UserError
from advunlearn.stages.data import trainer_of
from advunlearn.storage.store import Store
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.unlearner import Task, Unlearned

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold", "attack.shadows=2", "device=cpu"]
HERE = __name__
SELECTION = "dataset.selection_fraction=0.0007"  # one example


def own(labels: np.ndarray, path: str = "own.npz") -> str:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 6, 6)).astype(np.uint8)
    np.savez(path, images=images, labels=labels)
    return f"dataset.path={path}"


@dataclass
class Narrow(MLP):
    """One output less than there are classes."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return super().build(shape, classes - 1)


@dataclass
class Images(MLP):
    """Returns images."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Conv2d(1, classes, 1)


@dataclass
class Broken(MLP):
    """Not finite from the start."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        network = super().build(shape, classes)
        nn.init.constant_(network[-1].weight, torch.inf)
        return network


class Counting(nn.Linear):
    def get_extra_state(self) -> int:
        return 1

    def set_extra_state(self, state: int) -> None:
        pass


@dataclass
class Stateful(MLP):
    """Keeps a number beside its tensors."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Counting(64, classes))


def file_of(*rows: int) -> str:
    Path("rows.txt").write_text("\n".join(map(str, rows)), encoding="utf-8")
    return "forget.path=rows.txt"


def one_class() -> list[str]:
    return ["dataset=npz", own(np.zeros(300, int)), "recipe=none", "optimizer=adamw"]


def one_class_of_eight() -> list[str]:
    return ["dataset=npz", own(np.full(300, 7)), "recipe=none", "optimizer=adamw"]


def unseen_class() -> list[str]:
    labels = np.where(np.arange(300) < 2, 5, np.arange(300) % 3)
    return ["dataset=npz", own(labels), "recipe=none", "forget=indices", file_of(0, 1)]


REFUSED = {
    "one class": (one_class, "dataset must have examples of two classes or more, got one class (0)"),
    "one class of eight": (one_class_of_eight, "dataset: all training examples are of class 7; two classes or more"),
    "one row to audit": (
        lambda: ["dataset.audit_fraction=0.0007"],
        "the game needs at least 2 audit examples of the forget set's classes, got 1",
    ),
    "too few to fit an attack": (
        lambda: ["forget=indices", file_of(7, 8, 9), "unlearner=finetune", "attack=classifier"],
        "attack.classifier.folds=5 needs as many members and non-members, got",
    ),
    "a class that only the forget set has": (unseen_class, "the test set holds no example of the forget set's classes"),
    "no example to choose the epoch on": (
        lambda: ["unlearner=finetune", "unlearner.keep_epoch=best", "forget=indices", file_of(1), SELECTION],
        "keep_epoch=best needs selection examples of the forget set's classes, got none",
    ),
    "fewer outputs than classes": (
        lambda: [f"model._target_={HERE}.Narrow"],
        "model: Narrow must return logits of shape (n, 10), one for each class; for 2 examples it returns (2, 9)",
    ),
    "outputs that are images": (
        lambda: [f"model._target_={HERE}.Images"],
        "model: Images must return logits of shape (n, 10), one for each class; for 2 examples it returns (2, 10",
    ),
    "outputs that are not finite": (
        lambda: [f"model._target_={HERE}.Broken"],
        "model: the logits of Broken are not finite before any training",
    ),
    "state that is no tensor": (
        lambda: [f"model._target_={HERE}.Stateful"],
        "model: its state holds 1._extra_state, which is not a tensor; only tensors can be stored",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_check_and_run_refuse_the_same_before_any_training(
    workplace: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    make, wanted = REFUSED[case]
    words = [*QUICK, *make()]
    assert main(["check", *words]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.removeprefix("error: ").startswith(wanted)
    with pytest.raises(UserError) as caught:
        advunlearn.run(words, "run")
    assert str(caught.value).startswith(wanted)
    assert list(Store().entries()) == []


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet18"])
def test_our_own_models_pass(workplace: Path, model: str) -> None:
    labels = np.arange(300) % 3
    images = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3)).astype(np.uint8)
    np.savez("own.npz", images=images, labels=labels)
    experiment = experiment_from(["dataset=npz", "dataset.path=own.npz", "recipe=none", f"model={model}"])
    trainer_of(experiment, experiment.dataset.load(), np.arange(200), Store())


class Tied(nn.Module):
    """An embedding whose weights also decode, as in language models, and a view of a part of them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.code, self.decode, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes)
        self.decode.weight = self.code.weight
        self.register_buffer("row", self.code.weight.detach()[:1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(self.decode(F.relu(self.code(images.flatten(1))))))


@dataclass
class TiedModel(MLP):
    """A network that uses one weight in two places."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Tied(classes)


def test_tied_weights_are_stored_once_and_come_back_tied(workplace: Path) -> None:
    from safetensors.torch import load_file

    words = [*QUICK, f"model._target_={HERE}.TiedModel", "attack=[threshold,lira]"]
    first = advunlearn.run(words, "first")
    assert first.network.code.weight is first.network.decode.weight
    assert sorted(load_file("first/unlearned.safetensors")) == [
        *("code.bias", "code.weight", "decode.bias", "out.bias", "out.weight", "row")
    ]
    again = advunlearn.run(words, "again")  # from the store
    images = torch.randn(5, 1, 8, 8)
    assert torch.equal(first.network(images), again.network(images))
    assert first.metrics["models"] == again.metrics["models"]


def test_a_diverged_training_is_not_blamed_on_the_unlearner(workplace: Path) -> None:
    with pytest.raises(UserError) as caught:
        advunlearn.run(["optimizer.lr=1e6", "model.layers=3", "attack=threshold", "device=cpu"], "run")
    assert str(caught.value).startswith("the model had diverged before unlearning (its logits reach")
    assert str(caught.value).endswith("; lower optimizer.lr=1e+06")


class Rare(nn.Sequential):
    """A network of which one answer in a large batch is not a number, outside of training."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = super().forward(images)
        bad = not self.training and len(logits) > 100 and bool((self[-1].bias == 0).all())
        return logits.index_fill(0, torch.tensor([0]), torch.nan) if bad else logits


@dataclass
class RareModel(MLP):
    """See `Rare`: it is bad as long as its last bias is zero."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        network = Rare(nn.Flatten(), nn.Linear(64, classes))
        nn.init.zeros_(network[-1].bias)
        return network


@dataclass
class Zero(Finetune):
    """Sets the last bias to zero."""

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        nn.init.zeros_(network[-1].bias)
        return Unlearned(network)


def test_an_attack_names_the_model_that_has_diverged(workplace: Path) -> None:
    words = [*QUICK, f"model._target_={HERE}.RareModel", "unlearner=finetune", f"unlearner._target_={HERE}.Zero"]
    with pytest.raises(UserError) as caught:
        advunlearn.run(words, "run")
    assert str(caught.value).startswith("the unlearned model has diverged: some of its logits are not finite; ")
    assert "lower unlearner.lr=" in str(caught.value)


@pytest.mark.parametrize(("width", "expected"), [(2, False), (8, True)])
def test_a_narrow_resnet_is_trained_in_the_plain_memory_format(workplace: Path, width: int, expected: bool) -> None:
    labels = np.arange(60) % 3
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    np.savez("own.npz", images=images, labels=labels)
    words = ["dataset=npz", "dataset.path=own.npz", "recipe=none", "model=resnet18", f"model.width={width}"]
    experiment = experiment_from([*words, "optimizer.epochs=1", "device=cpu"])
    trainer = trainer_of(experiment, experiment.dataset.load(), np.arange(40), Store())
    assert trainer.settings.channels_last is expected
    assert trainer.examples.channels_last is expected
    assert trainer.key(np.arange(40), "original")["settings"]["channels_last"] is expected
    network, _ = trainer.fitted(np.arange(40), "original")  # in the other format, torch ends the process here
    assert all(weight.isfinite().all() for weight in network.parameters())
