"""Rewinding: the earlier state is that of the original's own training, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advunlearn.config.compose import experiment_from
from advunlearn.optimizers.adamw import AdamW
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.optimizers.sgd import SGD
from advunlearn.options import ConfigError, UserError
from advunlearn.stages.repeated import Repeated
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.rewind import Rewind
from tests.shadows.test_shadows import digits_trainer
from tests.unlearners.tasks import mlp, network, same, task

ROWS = np.arange(100)
OPTIMIZERS = [AdamW(epochs=4, warmup=0.3), SGD(epochs=4, schedule="steps", milestones=[0.3, 0.6])]


class Recorder(Checkpoint):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        super().__init__(Path("unused"), 0.0)
        self.weights: list[dict[str, torch.Tensor]] = []

    def read(self) -> Any:
        return None

    def step(self, state: Callable[[], Any]) -> None:
        parts = state()["parts"]["network"]
        self.weights.append({name: each.clone() for name, each in parts.items()})


@pytest.fixture(params=OPTIMIZERS, ids=lambda each: type(each).__name__)
def trainer(request: pytest.FixtureRequest, tmp_path: Path) -> Trainer:
    optimizer: Optimizer = request.param
    return digits_trainer(tmp_path, augment="flip_crop", optimizer=optimizer)


def earlier(trainer: Trainer, share: float) -> nn.Module:
    return Repeated(trainer, ROWS[::-2], ROWS[::2], None).earlier(share)


def test_all_epochs_are_the_original_to_the_bit(trainer: Trainer) -> None:
    assert same(earlier(trainer, 1.0), trainer.fitted(ROWS, "original")[0])


def test_some_epochs_are_the_originals_state_after_them_to_the_bit(trainer: Trainer) -> None:
    recorder = Recorder()
    trainer.fitted(ROWS, "original", checkpoint=recorder)
    found = earlier(trainer, 0.5)
    middle = recorder.weights[len(recorder.weights) // 2 - 1]
    assert all(torch.equal(each, middle[name]) for name, each in found.state_dict().items())
    assert not found.training


def test_no_epoch_is_the_untrained_network(trainer: Trainer) -> None:
    assert same(earlier(trainer, 0.0), trainer.fresh("original"))


def test_it_fine_tunes_from_the_earlier_state() -> None:
    options = {"epochs": 2, "batch_size": 16}
    rewound = Rewind(share=0.25, **options).unlearn(network(), task(training=At(0.25))).network
    assert same(rewound, Finetune(**options).unlearn(network(seed=7), task()).network)


@dataclass(frozen=True)
class At:
    """A training whose state after a share of the epochs is known."""

    share: float

    def earlier(self, share: float) -> nn.Module:
        assert share == self.share
        return network(seed=7)

    def shards(self, count: int) -> Iterator[nn.Module]:
        raise NotImplementedError


@pytest.mark.parametrize("unlearner", [["rewind"], ["sisa"], ["sg", "unlearner.base=rewind"]])
def test_a_given_original_is_refused_before_any_work(unlearner: list[str], tmp_path: Path) -> None:
    name, *options = unlearner
    save_file({"weight": torch.zeros(1)}, tmp_path / "original.safetensors")
    words = [f"unlearner={name}", *options, f"original.path={tmp_path / 'original.safetensors'}", "device=cpu"]
    with pytest.raises(
        ConfigError, match=r"^unlearner repeats the original's training, which is unknown if the original is given"
    ):
        experiment_from(words)


def test_a_model_without_a_training_setup_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="unlearner rewind repeats the original's training: use"):
        Rewind().unlearn(mlp(), task())
