"""What the steps of `gpu_check.py` share."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_audit_step import Mean
from torch import nn

from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.runtime.settings import Settings
from advunlearn.stages.data import prepare
from advunlearn.stages.unlearn import make_task, reference_set
from advunlearn.storage.paths import cache_folder
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.sg import SG

Found = dict[str, Any]

NEEDS_CUDA: Found = {"skipped": "it needs CUDA"}


@dataclass
class Bench:
    """What every step gets.

    Attributes:
        device: to be examined.
        tiny: only exercise the code.
        out: folder for results and runs.
        data: folder with packed parts of CIFAR-10, or None.
        note: writes what a long step has found so far.
    """

    device: torch.device
    tiny: bool
    out: Path
    data: Path | None
    note: Callable[[Found], None] = print

    @classmethod
    def make(cls, device: str, tiny: bool, out: Path, data: Path | None) -> Bench:
        """Return a bench whose runs keep their models in a store of its own, and share the data in the usual cache.

        Raises:
            ValueError: if the device is not available.
        """
        Settings(device=device).torch_device()
        cache = (out / "cache").absolute()
        cache.mkdir(exist_ok=True)
        data_folder = cache_folder() / "data"
        if data_folder.is_dir() and not (cache / "data").exists():
            (cache / "data").symlink_to(data_folder.absolute())
        os.environ["ADVUNLEARN_CACHE"] = str(cache)
        return cls(torch.device(device), tiny, out, data)

    @property
    def cuda(self) -> bool:
        """Is the device a GPU?"""
        return self.device.type == "cuda"

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        if self.cuda:
            torch.cuda.synchronize()

    def is_broken(self) -> bool:
        """Has an error left the GPU unusable for this process?"""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def seconds(self, function: Callable[[], object], repeats: int = 3, warm: int = 1) -> float:
        """Return the median time of a call, the device's work included."""
        taken = []
        for repeat in range(-warm, repeats):
            self.synchronize()
            start = time.perf_counter()
            function()
            self.synchronize()
            if repeat >= 0:
                taken.append(time.perf_counter() - start)
        return float(np.median(taken))

    def images(self, count: int, size: int) -> list[str]:
        """Return the overrides for a dataset of random images, as many to train on and 1,000 beside them."""
        path = self.out / f"images-{count}-{size}.npz"
        if not path.exists():
            random, rows = np.random.default_rng(0), count + 1000
            images = random.integers(0, 256, (rows, size, size, 3), dtype=np.uint8)
            np.savez(path, images=images, labels=np.arange(rows) % 10)
        return [
            "dataset=npz",
            f"dataset.path='{path}'",
            f"dataset.train_size={count}",
            "dataset.augment=flip_crop",
            "dataset.audit_fraction=0.6",
            "dataset.selection_fraction=0.2",
            "attack=threshold",
        ]


@dataclass(frozen=True)
class Setting:
    """What a run computes with."""

    experiment: Experiment
    trainer: Trainer
    splits: Splits


@contextlib.contextmanager
def setting(words: Sequence[str], device: torch.device) -> Iterator[Setting]:
    """Yield what a run of these overrides computes with; inside, torch's switches are set as the run would set them."""
    experiment = experiment_from([*words, f"device={device}"])
    with (
        tempfile.TemporaryDirectory() as folder,
        clean_state(experiment.settings.seed),
        experiment.settings.switches(),
        Manifest(Path(folder)) as manifest,
    ):
        yield Setting(*prepare(experiment, manifest))


def fitting(batch_size: int, *, optimizer: str = "sgd", lr: float = 0.01, precision: str = "fp32") -> list[str]:
    """Return the overrides for an epoch of training."""
    common = [f"optimizer.batch_size={batch_size}", "optimizer.epochs=1", f"optimizer.lr={lr}"]
    return [f"optimizer={optimizer}", *common, f"precision={precision}"]


@dataclass(frozen=True)
class Play:
    """Play the game, or its base alone, on a copy of one network."""

    on: Setting
    game: SG
    network: nn.Module

    def __call__(self, epochs: int, *, audits: bool = True) -> None:
        """Unlearn for so many epochs."""
        player = dataclasses.replace(self.game, epochs=epochs)
        splits = self.on.splits
        references = reference_set(self.on.experiment, self.on.trainer, splits, splits.forget)
        task = make_task(self.on.trainer, splits, splits.retain, splits.forget, references)
        (player if audits else player.leader()).run(copy.deepcopy(self.network), task)

    def steps(self, epochs: int) -> int:
        """Return how many steps so many epochs have."""
        return epochs * -(-len(self.on.splits.retain) // self.game.batch_size)


@contextlib.contextmanager
def game(bench: Bench, auditor: str, *, digits: bool) -> Iterator[Play]:
    """Give the game with an audit at every step: an MLP on digits, or ResNet-18 in bf16 on images like CIFAR-10's."""
    words = ["unlearner=sg", "unlearner.audit_every=1", "unlearner.audit_size=500", "unlearner.lr=0.01"]
    words += ["unlearner.keep_epoch=last", "forget.fraction=0.2"]
    words += [] if auditor == "none" else [f"auditor={auditor}"]
    words += ["auditor.references=4"] if auditor == "likelihood_ratio" else []
    if digits:
        words += ["model=mlp", *fitting(50), "attack=threshold", "unlearner.batch_size=50"]
    else:
        words += [*bench.images(5000, 32), "model=resnet18", *fitting(500, precision="bf16")]
        words += ["unlearner.batch_size=500"]
    with setting(words, bench.device) as on:
        player = on.experiment.unlearner
        assert isinstance(player, SG)
        player = dataclasses.replace(player, auditor=Mean()) if auditor == "none" else player
        yield Play(on, player, on.trainer.fitted(on.splits.train, "game")[0])
