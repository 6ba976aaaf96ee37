"""What only a GPU can show: `python -m pytest -n 0 -m gpu`. Elsewhere these tests are skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu.bench import setting
from gpu.checks import InterruptAfterFive, waits_in, weights

import advunlearn
from advunlearn.runtime.settings import Settings
from advunlearn.runtime.signals import Interrupted, heed_signals
from advunlearn.shadows import model_set
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.storage.store import Store
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

SMALL = ["dataset.train_size=200", "dataset.augment=flip_crop", "model=cnn", "model.width=8", "attack=threshold"]
SMALL += ["optimizer=sgd", "optimizer.lr=0.01", "optimizer.batch_size=25", "optimizer.epochs=2"]


@contextlib.contextmanager
def trainer(*words: str, device: str = "cuda") -> Iterator[Trainer]:
    """Yield the trainer of a small experiment, with torch's switches as a run sets them."""
    with setting([*SMALL, *words], torch.device(device)) as on:
        yield on.trainer


def test_a_run_takes_the_gpu_by_itself_and_returns_its_network_on_the_cpu(workplace: Path) -> None:
    result = advunlearn.run([*SMALL, "unlearner=finetune", "unlearner.epochs=1"], "run")
    assert '"device": "cuda' in Path("run/manifest.json").read_text(encoding="utf-8")
    assert result.network is not None
    assert {parameter.device.type for parameter in result.network.parameters()} == {"cpu"}


def test_waits_are_counted() -> None:
    tensor = torch.ones(3, device="cuda")
    assert waits_in(lambda: (tensor.sum().item(), tensor.tolist())) >= 2
    assert waits_in(lambda: tensor + tensor) == 0


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_a_training_step_does_not_wait_for_the_gpu(workplace: Path, model: str) -> None:
    with trainer(f"model={model}", "model.width=8", "optimizer.epochs=1") as one:
        one.fitted(np.arange(50), "test")  # cuDNN chooses its algorithms
        few, many = (waits_in(lambda count=count: one.fitted(np.arange(count), "test")) for count in (75, 200))
    assert many == few


def test_one_epoch_gives_the_weights_of_the_cpu(workplace: Path) -> None:
    with trainer("optimizer.epochs=1") as one:
        on_gpu = weights(one.fitted(np.arange(200), "test")[0])
    with trainer("optimizer.epochs=1", device="cpu") as one:
        on_cpu = weights(one.fitted(np.arange(200), "test")[0])
    assert (on_gpu - on_cpu).abs().max() < 1e-3


def test_a_default_run_reports_what_it_reports_on_the_cpu(workplace: Path) -> None:
    words = ["attack=[threshold,lira]", "attack.shadows=8"]
    models: list[dict[str, Any]] = [
        advunlearn.run([*words, f"device={device}"], device).metrics["models"] for device in ("cpu", "cuda")
    ]
    for name, on_cpu in models[0].items():
        on_gpu = models[1][name]
        for attack in ("threshold", "lira"):
            assert on_gpu["attacks"][attack]["auc"] == pytest.approx(on_cpu["attacks"][attack]["auc"], abs=0.02)
        assert on_gpu["accuracy"] == pytest.approx(on_cpu["accuracy"], abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_deterministic_a_training_repeats_and_resumes_to_the_bit(workplace: Path, precision: str) -> None:
    rows = np.arange(200)
    with trainer("deterministic=true", f"precision={precision}") as one:
        whole, again = (weights(one.fitted(rows, "test")[0]) for _ in range(2))
        with heed_signals(), pytest.raises(Interrupted):
            one.fitted(rows, "test", checkpoint=InterruptAfterFive(Path("checkpoint"), 1e9))
        assert list(Path("checkpoint").iterdir())
        resumed = weights(one.fitted(rows, "test", checkpoint=Checkpoint(Path("checkpoint"), 1e9))[0])
    assert torch.equal(again, whole)
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize("stacked", [False, True])
def test_processes_of_their_own_give_the_shadow_models_of_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, stacked: bool
) -> None:
    """Where there is one GPU, both processes have it."""
    count, rows = torch.cuda.device_count(), np.arange(200)
    devices = [f"cuda:{number % count}" for number in range(max(2, count))]
    with trainer("deterministic=true") as one:
        options = ShadowOptions(32 if stacked else 4, stacked=stacked)
        alone = ShadowSet(one, options, rows, rows).observe(rows).logits
        monkeypatch.setattr(Settings, "all_devices", lambda settings: devices)
        monkeypatch.setattr(model_set, "run_tasks", lambda *_: pytest.fail("in this process"))
        apart = replace(one, store=Store(workplace / "apart"))
        assert np.array_equal(ShadowSet(apart, options, rows, rows).observe(rows).logits, alone)
    assert {each.digest for each in apart.store.entries()} == {
        each.digest for each in one.store.entries() if each.kind == "shadow"
    }


@pytest.mark.parametrize("stacked", [False, True])
def test_memory_does_not_grow_from_one_shadow_model_to_the_next(workplace: Path, stacked: bool) -> None:
    held = []
    with trainer("optimizer.epochs=1") as one:
        for index in range(6):
            if stacked:
                one.fitted_stack([np.arange(100)] * 2, "test", [2 * index, 2 * index + 1])
            else:
                one.fitted(np.arange(100), "test", index)
            held.append(torch.cuda.memory_allocated())
    assert held[-1] == held[1]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "auto"])
def test_every_precision_learns(workplace: Path, precision: str) -> None:
    with trainer(f"precision={precision}", "optimizer.epochs=20", "dataset.augment=none") as one:
        loss = one.fitted(np.arange(200), "test")[1]["loss"]
    assert loss < 0.8 * np.log(10)  # of a network that knows nothing


def test_a_compiled_network_learns_what_one_does_that_is_not(workplace: Path) -> None:
    losses = []
    for compiled in ("false", "true"):
        with trainer(f"compile={compiled}") as one:
            losses.append(one.fitted(np.arange(190), "test")[1]["loss"])  # the last batch is a short one
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
