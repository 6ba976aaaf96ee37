"""Stage `memorization`: models that tell how much each training example is memorized, and the forget set they choose.

Only scenarios such as `forget=memorized` need it. Until its models are trained, the forget set of a run is a stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.metrics_file import Memorization
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Rows
from advunlearn.shadows.memorization import confidence, difficulty, known_mean, memorization
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.data import check_parts
from advunlearn.stages.original import splits_of
from advunlearn.training.trainer import Trainer

STREAM = "memorization"
SHORT = 10  # the proxy's training takes so many times fewer epochs


@dataclass(frozen=True)
class Measured:
    """The difficulty of each row of the pool, NaN outside the training set, and its memorization, if it is known."""

    difficulty: NDArray[np.float64]
    memorization: NDArray[np.float64] | None


def memorization_set(experiment: Experiment, trainer: Trainer, train: Rows) -> ShadowSet | None:
    """Return the models that memorization is estimated from, each trained on half of the training rows, if any."""
    count = experiment.forget.memorization_models()
    trainer = trainer.seeded(experiment.settings.seed)  # as the splits: other trainings forget the same examples
    return ShadowSet(trainer, ShadowOptions(count), train, train, STREAM) if count else None


def short_trainer(experiment: Experiment, trainer: Trainer) -> Trainer | None:
    """Return the trainer of the proxy's model, if the run uses the proxy."""
    if experiment.forget.memorization_models() != 0:
        return None
    epochs = max(1, trainer.optimizer.epochs // SHORT)
    trainer = trainer.seeded(experiment.settings.seed)
    return replace(trainer, optimizer=replace(trainer.optimizer, epochs=epochs))


def memorization_keys(experiment: Experiment, trainer: Trainer, train: Rows) -> tuple[str, list[dict[str, Any]]]:
    """Return the kind of the models in the store, and the key of each; no key if the run needs none."""
    models, short = memorization_set(experiment, trainer, train), short_trainer(experiment, trainer)
    if models is not None:
        return models.kind, [models.key(index) for index in range(models.count)]
    return "model", [] if short is None else [short.key(train, STREAM)]


def measured(experiment: Experiment, trainer: Trainer, train: Rows) -> Measured:
    """Return what the models tell of the training rows; those that the store does not hold are trained."""
    models, short = memorization_set(experiment, trainer, train), short_trainer(experiment, trainer)
    labels = trainer.pool.labels

    def of_pool(values: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full(len(labels), np.nan)
        whole[train] = values
        return whole

    if models is not None:
        outputs = models.observe(train)
        return Measured(of_pool(difficulty(outputs, labels[train])), of_pool(memorization(outputs, labels[train])))
    assert short is not None
    logits = short.logits(short.train(train, STREAM)[0], train, 1)[:, 0]
    return Measured(of_pool(-confidence(logits, labels[train])), None)


def known_splits(experiment: Experiment, trainer: Trainer, splits: Splits) -> Splits:
    """Return the splits with the final forget set if the store holds the models for it, else the given ones."""
    kind, keys = memorization_keys(experiment, trainer, splits.train)
    if not keys or not trainer.store.holds(kind, keys):
        return splits
    return splits_of(experiment, trainer.pool, measured(experiment, trainer, splits.train).difficulty)


def choose_forget_set(
    experiment: Experiment, trainer: Trainer, splits: Splits, manifest: Manifest
) -> tuple[Experiment, Splits, Memorization | None]:
    """Return the run with its final forget set, and how much that is memorized, if it is known.

    Most scenarios need no models: what was given is final, and returned.

    Raises:
        UserError: see `check_parts`.
    """
    if experiment.forget.memorization_models() is None:
        return experiment, splits, None
    with manifest.stage("memorization"):
        found = measured(experiment, trainer, splits.train)
        splits = splits_of(experiment, trainer.pool, found.difficulty)
        experiment = check_parts(experiment, splits, trainer.pool.labels)
        splits.save(manifest.folder / "splits.npz")
    mean = None if found.memorization is None else known_mean(found.memorization[splits.forget])
    if mean is None:
        return experiment, splits, None
    count = experiment.forget.memorization_models() or 0
    return experiment, splits, {"mean": mean, "examples": len(splits.forget), "models": count, "chosen_by_it": True}
