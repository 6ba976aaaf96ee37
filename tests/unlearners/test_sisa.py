"""Sharded exact unlearning: which members change, and what the ensemble predicts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import advunlearn
from advunlearn.options import UserError
from advunlearn.report.run.table import notes
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.stages.repeated import Repeated
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import load_weights, weights_of
from advunlearn.unlearners.sisa import SISA, Ensemble
from tests.shadows.test_shadows import digits_trainer
from tests.unlearners.tasks import examples, mlp, network, same, task

ROWS = np.arange(200, 290)


def shard(trainer: Trainer, which: int) -> np.ndarray:
    """Return the rows of a third of the training."""
    return np.sort(numpy_stream(trainer.settings.seed, "sisa").permutation(ROWS)[which::3])


def members(trainer: Trainer, forget: np.ndarray) -> list[nn.Module]:
    training = Repeated(trainer, np.setdiff1d(ROWS, forget), forget, None)
    unlearned = SISA(shards=3).unlearn(mlp(), task(training=training)).network
    assert not unlearned.training
    return list(unlearned.members)  # type: ignore[arg-type]


def test_shards_without_forget_examples_are_untouched_to_the_bit(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    nothing, forget = np.array([], int), np.concatenate([shard(trainer, 0)[:4], shard(trainer, 2)[5:6]])
    before, after = members(trainer, nothing), members(trainer, forget)
    assert [same(one, other) for one, other in zip(before, after, strict=True)] == [False, True, False]
    assert same(before[1], trainer.fitted(shard(trainer, 1), "sisa/3/1")[0])
    assert same(after[0], trainer.fitted(shard(trainer, 0)[4:], "sisa/3/0")[0])
    assert len({tuple(shard(trainer, each)) for each in range(3)}) == 3


def test_a_shard_of_forget_examples_alone_is_refused_in_one_line(tmp_path: Path) -> None:
    trainer = digits_trainer(tmp_path)
    says = "all examples of shard 1 are to be forgotten (lower unlearner.shards=3)"
    with pytest.raises(UserError, match=re.escape(says)):
        members(trainer, shard(trainer, 1))


def test_the_ensembles_probabilities_are_the_mean_of_its_members() -> None:
    nets, inputs = [network(seed).eval() for seed in range(3)], examples(5, 0).inputs
    probabilities = torch.stack([net(inputs).softmax(1) for net in nets]).mean(0)
    torch.testing.assert_close(Ensemble(nets)(inputs).exp(), probabilities)


def test_the_result_takes_its_weights_as_the_store_keeps_them() -> None:
    ensemble = Ensemble(network(seed) for seed in range(2)).eval()
    restored = SISA(shards=2).result(network).eval()
    load_weights(restored, weights_of(ensemble))
    assert same(restored, ensemble)


def test_a_run_stores_the_ensemble_and_measures_it(workplace: Path) -> None:
    words = ["unlearner=sisa", "unlearner.shards=2", "attack=threshold", "optimizer.epochs=2"]
    metrics = advunlearn.run([*words, "dataset.train_size=100"], workplace / "run").metrics
    models = metrics["models"]
    assert metrics["weights"]["models"] == {}
    assert "no distance between weights: not of the original's architecture: unlearned" in notes(metrics)
    assert models["unlearned"]["accuracy"] != models["retrained"]["accuracy"]
    stored = load_file(workplace / "run" / "unlearned.safetensors")
    assert {name.split(".")[1] for name in stored} == {"0", "1"}


def test_what_it_cannot_do_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match="unlearner sisa trains as the original was trained: use"):
        SISA().unlearn(mlp(), task())
    with pytest.raises(UserError, match=r"unlearner\.shards must be at most 4, half of the examples, got 5"):
        SISA().check({"retain": np.zeros(7, int), "forget": np.zeros(2, int)})
