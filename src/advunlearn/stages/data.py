"""Stage `data`: load the dataset, put it on the device, and split it."""

from __future__ import annotations

import torch

from advunlearn.config.experiment import Experiment
from advunlearn.data.examples import examples_of
from advunlearn.data.splits import Splits, make_splits
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.attack import attacked_rows
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer


def prepare(experiment: Experiment, manifest: Manifest) -> tuple[Trainer, Splits]:
    """Load the data, put it on the device and split it; the splits are written to the run's folder."""
    settings = experiment.settings
    with manifest.stage("data"):
        pool = experiment.dataset.load()
        splits = make_splits(pool, experiment.dataset, experiment.forget, settings.seed)
        _, members = attacked_rows(splits, pool.labels)
        for attack in experiment.attacks.values():
            attack.check(members)
        splits.save(manifest.folder / "splits.npz")
        sizes = {part: len(rows) for part, rows in vars(splits).items()}
        manifest.note(splits=sizes, dataset_checksum=pool.checksum)
        examples = examples_of(pool, experiment.dataset, settings.torch_device(), channels_last=settings.channels_last)
    trainer = Trainer(pool, examples, experiment.dataset, experiment.model, experiment.optimizer, settings, Store())
    trainer.policy.choose_threads()
    manifest.note(threads=torch.get_num_threads())
    return trainer, splits
