from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from advunlearn.data.digits import Digits
from advunlearn.data.examples import Examples, examples_of
from advunlearn.models.cnn import CNN
from advunlearn.models.mlp import MLP
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.optimizers.sgd import SGD
from advunlearn.runtime.settings import Settings
from advunlearn.storage.store import Store
from advunlearn.training.fit import Diverged, fit, initialise, mode, predict
from advunlearn.training.setup import Setup
from advunlearn.training.trainer import Trainer
from tests.unlearners.tasks import same

CPU = Settings(device="cpu")


def digits_trainer(root: Path, **changes: object) -> Trainer:
    dataset = Digits()
    pool = dataset.load()
    examples = examples_of(pool, dataset, np.arange(250), torch.device("cpu"), channels_last=True)
    trainer = Trainer(pool, examples, dataset, MLP(hidden=32), AdamW(epochs=5), CPU, Store(root))
    return dataclasses.replace(trainer, **changes)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1), AdamW(lr=0.1), SGD(lr=0.1, momentum=0, nesterov=True)])
def test_optimizers_descend(optimizer: Optimizer) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    torch_optimizer, schedule = optimizer.create([weight], 200)
    for _ in range(200):
        torch_optimizer.zero_grad()
        weight.square().sum().backward()
        torch_optimizer.step()
        schedule.step()
    assert abs(weight.item()) < 0.05


def test_schedules_follow_their_formulas() -> None:
    cosine = Optimizer(schedule="cosine")
    assert [cosine.factor(step, 100) for step in (0, 50, 100)] == pytest.approx([1, 0.5, 0], abs=1e-12)
    steps = Optimizer(schedule="steps", milestones=[0.5, 0.75])
    assert [steps.factor(step, 100) for step in (0, 49, 50, 75, 99)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    rising = Optimizer(schedule="constant", warmup=0.1)
    factors = [rising.factor(step, 100) for step in range(100)]
    assert factors[0] > 0
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == [1.0] * 90


def test_one_step_is_plain_gradient_descent() -> None:
    examples = Examples(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]))
    network = nn.Linear(3, 2)
    weight = network.weight.detach().clone()
    (gradient,) = torch.autograd.grad(
        nn.functional.cross_entropy(network(examples.inputs), examples.labels), [network.weight]
    )
    optimizer = SGD(lr=0.5, epochs=1, batch_size=6, momentum=0, weight_decay=0, schedule="constant")
    fit(network, examples, optimizer, CPU, "test")
    torch.testing.assert_close(network.weight.detach(), weight - 0.5 * gradient)


def test_training_memorises_and_repeats_to_the_bit(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path, optimizer=AdamW(lr=0.01, epochs=60))
    rows = np.arange(100)
    network, record = trainer.fitted(rows, "original")
    torch.rand(5)  # the global generator is nobody's stream
    again, _ = trainer.fitted(rows[::-1], "original")
    other, _ = trainer.fitted(rows, "retrained")
    logits = predict(network, trainer.examples)
    assert record["loss"] < 0.05
    assert (logits[:100].argmax(1).numpy() == trainer.pool.labels[:100]).all()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(logits, predict(other, trainer.examples))


def test_a_trained_model_comes_back_from_the_store(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path, model=CNN(width=4))
    rows = np.arange(60)
    first, made = trainer.train(rows, "original")
    second, read = trainer.train(rows, "original")
    assert (made.reused, read.reused) == (False, True)
    assert torch.equal(predict(first, trainer.examples), predict(second, trainer.examples))
    assert not second.training
    others = [
        trainer.key(np.arange(61), "original"),
        trainer.key(rows, "retrained"),
        dataclasses.replace(trainer, optimizer=AdamW(lr=1e-3)).key(rows, "original"),
        dataclasses.replace(trainer, settings=Settings(device="cpu", seed=1)).key(rows, "original"),
        dataclasses.replace(trainer, dataset=Digits(augment="flip_crop")).key(rows, "original"),
    ]
    assert trainer.key(rows, "original") not in others


def test_divergence_is_an_error_that_says_what_to_lower(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path, optimizer=SGD(lr=1e30))
    with pytest.raises(Diverged, match=r"the original model diverged .*lower optimizer.lr"):
        trainer.train(np.arange(50), "original")
    assert list(trainer.store.entries()) == []


def test_predict_asks_in_evaluation_mode_and_puts_the_mode_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2))
    network[0].eval()
    examples = Examples(torch.randn(50, 2) + 3, torch.zeros(50, dtype=torch.long))
    before = network[0].running_mean.clone()
    logits = predict(network, examples)
    assert torch.equal(logits, predict(network, examples))
    assert torch.equal(network[0].running_mean, before)
    assert [module.training for module in network] == [False, True, True]


def test_mode_is_put_back_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).eval()
    network[1].train()
    with pytest.raises(RuntimeError), mode(network, training=True):
        raise RuntimeError
    assert [network.training, network[0].training, network[1].training] == [False, False, True]


def test_initialisation_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    initialise(MLP(hidden=4), (1, 2, 2), 2, CPU, "original")
    assert torch.equal(torch.rand(3), expected)


def test_bf16_trains_with_float32_weights_and_answers_attacks_in_float32(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path, settings=Settings(device="cpu", precision="bf16"))
    network, record = trainer.fitted(np.arange(50), "original")
    assert math.isfinite(record["loss"])
    assert not same(network, digits_trainer(tmp_path).fitted(np.arange(50), "original")[0])
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    ((inputs, _),) = trainer.examples.subset(np.arange(50)).batches()
    assert torch.equal(torch.from_numpy(trainer.logits(network, np.arange(50), 1)[:, 0]), network(inputs).detach())


def test_the_identity_of_settings_holds_what_changes_bits_on_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    base = CPU.identity()
    same_bits = [{"precision": "tf32"}, {"precision": "auto"}, {"deterministic": True}, {"checkpoint_seconds": 1.0}]
    assert all(Settings(device="cpu", **change).identity() == base for change in same_bits)
    assert base["precision"] == "fp32"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    changes = [{}, {"precision": "tf32"}, {"precision": "bf16"}, {"deterministic": True}]
    on_cuda = [Settings(device="cuda", **change).identity() for change in changes]
    assert [identity["precision"] for identity in on_cuda[:2]] == ["fp32", "tf32"]
    assert len({tuple(identity.values()) for identity in on_cuda}) == 4
    assert Settings(device="cuda", precision="auto").identity() == on_cuda[2]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert Settings(device="cuda", precision="auto").identity() == on_cuda[0]


def test_compiled_networks_share_one_graph_of_fixed_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[torch.Size] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        # Symbolic sizes would come as inputs that are no tensors.
        batches.extend(each.shape for each in inputs if not isinstance(each, nn.Parameter))
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    settings = Settings(device="cpu", compile=True)
    trainer = digits_trainer(tmp_path, settings=settings, model=MLP(hidden=8), optimizer=AdamW(epochs=2, batch_size=32))
    trainer.policy.warm_up()
    assert batches == [(32, 1, 8, 8)]
    # The last batches are of 4 and 20.
    networks = [trainer.fitted(np.arange(100), stream)[0] for stream in ("original", "retrained")]
    trainer.fitted(np.arange(20), "shadow", 0)
    assert batches == [(32, 1, 8, 8)]
    plain = dataclasses.replace(trainer, settings=CPU)
    for network, stream in zip(networks, ("original", "retrained"), strict=True):
        assert same(network, plain.fitted(np.arange(100), stream)[0])


def test_a_limit_of_workers_holds_for_models_of_another_seed(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    trainer.policy.most_workers = 1
    other = trainer.seeded(trainer.settings.seed + 1)
    assert other.policy.workers == 1
    assert other.settings.seed == trainer.settings.seed + 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: lost"), MemoryError()])
def test_a_failing_device_is_no_reason_to_fit_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trainer = digits_trainer(tmp_path)
    monkeypatch.setattr(Setup, "fitted_stack", raising(error))
    with pytest.raises(type(error)):
        trainer.policy.try_stack()


def test_why_networks_are_not_stacked_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Setup, "fitted_stack", raising(ValueError("no batching rule\nfor this")))
    with caplog.at_level(logging.INFO):
        assert not digits_trainer(tmp_path).policy.try_stack()
    assert caplog.messages == ["networks are fitted one by one, not as a stack: ValueError: no batching rule"]


def raising(error: Exception) -> Callable[..., None]:
    def raises(*_: object) -> None:
        raise error

    return raises
