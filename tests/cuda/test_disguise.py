"""The paths of CUDA, on a CPU in disguise: the same bits as on the CPU, and a budget of waits for the device."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import Experiment
from advunlearn.data.examples import Examples
from advunlearn.data.splits import Splits
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.stages.unlearn import make_task, reference_set
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.finetune import Finetune
from tests.cuda.disguise import Cuda, disguised
from tests.unlearners.test_every_method import BY_STEPS

SMALL = ["threads=1", "dataset.train_size=200", "optimizer.epochs=2", "unlearner.epochs=1"]


@pytest.fixture
def on_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, Any]]:
    """Give a function that returns what a function of the device gives on the CPU and on a disguised GPU."""

    def both(work: Callable[[str, Path], Any]) -> tuple[Any, Any]:
        results = []
        for device in ("cpu", "cuda"):
            monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / device / "cache"))
            with disguised() if device == "cuda" else contextlib.nullcontext():
                results.append(work(device, tmp_path / device))
        return results[0], results[1]

    return both


def prepared(folder: Path, *words: str) -> tuple[Experiment, Trainer, Splits]:
    experiment = experiment_from([*SMALL, "recipe=none", *words])  # composed once, not three times
    with Manifest(folder / "run") as manifest:
        return prepare(experiment, manifest)


def unlearned(experiment: Experiment, trainer: Trainer, splits: Splits) -> tuple[Any, dict[str, Any]]:
    references = reference_set(experiment, trainer, splits, splits.forget)
    task = make_task(trainer, splits, splits.retain, splits.forget, references)
    result = experiment.unlearner.run(trainer.fresh("original"), task)
    return result.network, result.trace


def bits(network: torch.nn.Module) -> dict[str, list[Any]]:
    return {name: value.cpu().tolist() for name, value in network.state_dict().items()}


CASES = {
    "mlp": [],
    "cnn": ["model=cnn", "model.width=4", "dataset.augment=flip_crop"],
    "resnet18": ["model=resnet18", "model.width=8", "dataset.augment=flip_crop", "optimizer=sgd"],
    "bf16": ["model=cnn", "model.width=4", "precision=bf16"],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_trained_networks_are_the_cpus_to_the_bit(on_both: Callable[..., tuple[Any, Any]], words: list[str]) -> None:
    def work(device: str, folder: Path) -> Any:
        _, trainer, splits = prepared(folder, *words, f"device={device}")
        alone, record = trainer.fitted(splits.train, "original")
        halves = splits.train[:50], splits.train[50:100]
        stack = [(bits(network), record) for network, record in trainer.fitted_stack(halves, "shadow", range(2))]
        assert all(isinstance(weight, Cuda) == (device == "cuda") for weight in alone.parameters())
        return bits(alone), record, stack, trainer.logits(alone, splits.test, 2).tolist()

    on_cpu, on_cuda = on_both(work)
    assert on_cuda == on_cpu


GAMES = {
    "squared_hinge": ["auditor=svm", "auditor.loss=squared_hinge"],
    "huber_hinge": ["auditor=svm", "auditor.groups=class", "dataset.augment=flip_crop"],
    "hinge": ["auditor=svm", "auditor.loss=hinge"],
    "logistic": ["auditor=logistic", "unlearner.optimizer_state=separate", "unlearner.keep_epoch=best"],
    "neural": ["auditor=neural", "auditor.hidden=4"],
    "likelihood_ratio": ["auditor=likelihood_ratio", "auditor.references=4"],
}


@pytest.mark.parametrize("words", GAMES.values(), ids=GAMES)
def test_the_game_is_the_cpus_to_the_bit(on_both: Callable[..., tuple[Any, Any]], words: list[str]) -> None:
    def work(device: str, folder: Path) -> Any:
        network, trace = unlearned(*prepared(folder, *words, f"device={device}"))
        return bits(network), trace

    on_cpu, on_cuda = on_both(work)
    assert on_cuda == on_cpu


# The game runs finetune; the graph of a gradient, which MU-Mis differentiates again, is not disguised.
@pytest.mark.parametrize("name", [name for name in BY_STEPS if name not in ("finetune", "mu_mis")])
def test_every_baseline_by_steps_is_the_cpus_to_the_bit(on_both: Callable[..., tuple[Any, Any]], name: str) -> None:
    words = ["model=cnn", "model.width=2", "dataset.augment=flip_crop", f"unlearner={name}"]
    words += ["unlearner.attack_steps=4", "unlearner.doublings=3"] if name == "amun" else []

    def work(device: str, folder: Path) -> Any:
        network, trace = unlearned(*prepared(folder, *words, f"device={device}"))
        return bits(network), trace

    on_cpu, on_cuda = on_both(work)
    assert on_cuda == on_cpu


def test_a_whole_run_is_the_cpus_but_for_its_times(on_both: Callable[..., tuple[Any, Any]]) -> None:
    attacks = ["attack=[threshold,lira]", "attack.shadows=4"]

    def work(device: str, folder: Path) -> advunlearn.Result:
        return advunlearn.run([*SMALL, *attacks, f"device={device}"], folder / "run")

    on_cpu, on_cuda = on_both(work)
    for timed in ("seconds", "unlearning_over_retraining"):
        assert on_cpu.metrics.pop(timed) != on_cuda.metrics.pop(timed)
    assert on_cpu.metrics.pop("unlearning")["reads"] == on_cuda.metrics.pop("unlearning")["reads"]
    assert on_cuda.metrics == on_cpu.metrics
    assert on_cpu.network is not None
    assert on_cuda.network is not None
    assert {type(value) for value in on_cuda.network.state_dict().values()} == {Tensor}  # it is returned on the CPU
    assert bits(on_cuda.network) == bits(on_cpu.network)


def counted(work: Callable[[], Any]) -> int:
    """Return how often the CPU waits in this work on a disguised GPU."""
    with disguised() as waits:
        before = waits.total()
        work()
        return waits.total() - before


def waits_of_steps(folder: Path, training: str, batch_size: int) -> int:
    """Return the waits of a training of two epochs in batches of this size."""
    size = [f"{group}.batch_size={batch_size}" for group in ("optimizer", "unlearner")]
    with disguised():
        experiment, trainer, splits = prepared(
            folder / str(batch_size), "device=cuda", "unlearner=finetune", "dataset.augment=flip_crop", *size
        )
    work = {
        "fit": lambda: trainer.fitted(splits.train, "original"),
        "stack": lambda: trainer.fitted_stack([splits.train[:50], splits.train[50:100]], "shadow", range(2)),
        "finetune": lambda: unlearned(experiment, trainer, splits),
    }
    return counted(work[training])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("training", ["fit", "stack", "finetune"])
def test_no_training_step_waits(cache: Path, training: str) -> None:
    assert waits_of_steps(cache, training, 10) == waits_of_steps(cache, training, 50)


@pytest.mark.parametrize("auditor", ["svm", "logistic", "neural", "likelihood_ratio"])
def test_an_audit_step_waits_at_most_four_times(cache: Path, auditor: str) -> None:
    small = {"likelihood_ratio": ["auditor.references=4"], "neural": ["auditor.hidden=4"]}.get(auditor, [])
    with disguised():
        words = ["device=cuda", "unlearner.batch_size=40", f"auditor={auditor}", *small]
        experiment, trainer, splits = prepared(cache, *words)
        if auditor == "likelihood_ratio":
            unlearned(experiment, trainer, splits)  # trains the references

    def waits_and_steps(audit_every: int) -> tuple[int, int]:
        traces: list[dict[str, Any]] = []
        every = dataclasses.replace(experiment.unlearner, audit_every=audit_every)
        rare = dataclasses.replace(experiment, unlearner=every)
        waits = counted(lambda: traces.append(unlearned(rare, trainer, splits)[1]))
        return waits, len(traces[0]["step"])

    (often, many), (seldom, one) = waits_and_steps(1), waits_and_steps(1000)
    assert one == 1
    assert many >= 4
    assert often - seldom <= 4 * (many - one)


def test_it_finds_tensors_on_two_devices(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Examples.training_batch
    monkeypatch.setattr(Examples, "training_batch", lambda *args: (right(*args)[0], right(*args)[1].cpu()))
    with pytest.raises(RuntimeError, match=r"at least two devices, cuda:0 and cpu! .*nll_loss"):
        waits_of_steps(cache, "fit", 50)


def test_it_finds_a_wait_in_a_step(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Finetune.loss

    def waiting(self: Finetune, *args: Tensor) -> Tensor:
        loss = right(self, *args)
        loss.item()
        return loss

    monkeypatch.setattr(Finetune, "loss", waiting)
    many, few = (waits_of_steps(cache, "finetune", batch_size) for batch_size in (10, 50))
    assert many - few >= 12  # 160 retain examples: 16 steps for 4


def test_a_disguised_tensor_behaves_like_one_on_a_gpu() -> None:
    with disguised() as waits:
        here, there = torch.arange(4.0), torch.arange(4.0, device="cuda")
        assert not waits
        assert (there.device.type, (2 * there).device.type, there.cpu().device.type) == ("cuda", "cuda", "cpu")
        assert torch.equal(there[torch.tensor([2, 0])].cpu(), here[[2, 0]])
        for refused in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here @ there):
            with pytest.raises(RuntimeError, match="at least two devices"):
                refused()
        for read in (lambda: np.asarray(there), there.numpy):
            with pytest.raises(TypeError, match=r"Use Tensor\.cpu"):
                read()
        assert (there * torch.tensor(2.0)).cpu().tolist() == [0, 2, 4, 6]
    assert type(torch.arange(2.0)) is Tensor
