"""Stage `data`: load the dataset, move it to the device, and split it."""

from __future__ import annotations

import torch

from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import Pool
from advunlearn.data.examples import examples_of
from advunlearn.data.splits import Splits, make_splits
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.attack import attacked_rows
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer


def prepare(experiment: Experiment, manifest: Manifest) -> tuple[Trainer, Splits]:
    """Load the data, move it to the device and split it; write the splits to the run's folder."""
    with manifest.stage("data"):
        pool = experiment.dataset.load()
        splits = make_splits(pool, experiment.dataset, experiment.forget, experiment.settings.seed)
        _, members = attacked_rows(splits, pool.labels)
        for attack in experiment.attacks.values():
            attack.check(members)
        splits.save(manifest.folder / "splits.npz")
        sizes = {part: len(rows) for part, rows in vars(splits).items()}
        manifest.note(splits=sizes, dataset_checksum=pool.checksum)
        trainer = trainer_of(experiment, pool, Store())
    manifest.note(threads=torch.get_num_threads())
    return trainer, splits


def trainer_of(experiment: Experiment, pool: Pool, store: Store) -> Trainer:
    """Move a pool to the device; return the trainer of its models, after choosing torch's CPU threads for it."""
    settings, dataset = experiment.settings, experiment.dataset
    examples = examples_of(pool, dataset, settings.torch_device(), channels_last=settings.channels_last)
    trainer = Trainer(pool, examples, dataset, experiment.model, experiment.optimizer, settings, store)
    trainer.policy.choose_threads()
    return trainer
