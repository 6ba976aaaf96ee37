"""Stage `relearning`: each model is fine-tuned on the retain set alone. Does what it forgot come back?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from advunlearn.attacks.statistics import cross_entropy
from advunlearn.config.experiment import Experiment
from advunlearn.data.examples import batch_sizes
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import accuracy
from advunlearn.evaluation.further_metrics import Relearning
from advunlearn.evaluation.metrics import auc_interval, clopper_pearson
from advunlearn.evaluation.names import MODELS, ModelName
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.curves import unheard
from advunlearn.stages.attack import attacked_rows
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer

RELEARNING_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`
STREAM = "relearning"


def relearn(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest
) -> Relearning | None:
    """Return how the three models answer while they are fine-tuned on the retain set; None if it was not asked for.

    No forget example is used. A model that has forgotten answers as the retrained one does, which is fine-tuned on the
    same batches. In a model that only hides the forget set, the retain examples bring it back.

    References:
        [siddiqui2025] S. A. Siddiqui, A. Weller, D. Krueger, G. K. Dziugaite, M. C. Mozer and E. Triantafillou, "From
            Dormant to Deleted: Tamper-Resistant Unlearning Through Weight-Space Regularization", 2025.
            https://arxiv.org/abs/2505.22310
    """
    if experiment.audits.relearning == 0:
        return None
    trainer = relearning_trainer(experiment, trainer)
    with manifest.stage("relearning") as stage:
        found = {name: of_model(trainer, splits, models, name) for name in MODELS}
        stage.note(
            reused=all(each.reused for each in found.values()),
            artefact={name: each.digest for name, each in found.items()},
        )
    members = attacked_rows(splits, trainer.pool.labels)[1]
    return {
        "models": {name: found[name].record["curve"] for name in MODELS},
        "epochs": trainer.optimizer.epochs,
        "lr": trainer.optimizer.lr,
        "examples": {"forget": len(splits.forget), "test": len(splits.test)},
        "attacked": {"forget": int(members.sum()), "test": int((~members).sum())},
    }


def relearning_trainer(experiment: Experiment, trainer: Trainer) -> Trainer:
    """Return the trainer of the fine-tuning: the run's optimizer at a constant rate, so that epochs can be added."""
    audits, optimizer = experiment.audits, trainer.optimizer
    lr = optimizer.lr if audits.relearning_lr is None else audits.relearning_lr
    own: Optimizer = replace(optimizer, epochs=audits.relearning, lr=lr, schedule="constant", warmup=0.0)
    return replace(trainer, optimizer=own).seeded(experiment.seed_of("audit"))


def relearning_key(trainer: Trainer, splits: Splits, model: Artefact) -> dict[str, Any]:
    """Return everything that determines the curve of one model: its key in the store."""
    return {
        **trainer.key(splits.retain, STREAM),
        "relearning": RELEARNING_SCHEMA,
        "start": [model.digest, model.content],
        "watched": {part: index_digest(getattr(splits, part)) for part in ("forget", "test")},
    }


def of_model(trainer: Trainer, splits: Splits, models: Models, name: ModelName) -> Artefact:
    """Return the artefact with the curve of one model, from the store if available."""
    key = relearning_key(trainer, splits, models.artefacts[name])

    def make() -> Artefact:
        network = copy.deepcopy(models.networks[name])
        steps = trainer.optimizer.epochs * len(batch_sizes(len(splits.retain), trainer.optimizer.batch_size))
        curve = Curve(lambda: answers(trainer, network, splits), points(steps))
        with unheard():
            trainer.fit(network, splits.retain, STREAM, checkpoint=trainer.checkpoint("relearning", key), watch=curve)
        return Artefact({"curve": curve.found}, {}, {})

    return trainer.store.get_or_make("relearning", key, make)


def points(steps: int) -> list[int]:
    """Return the steps at which a model is measured: none, each power of two, and all: most changes come early."""
    return sorted({0, steps, *(1 << power for power in range(steps.bit_length()))})


class Curve:
    """What a network answers at some steps of a training, from the start of which it is measured.

    Args:
        measure: returns the numbers of the network as it is.
        points: the steps after which it is measured, and 0.
    """

    def __init__(self, measure: Callable[[], dict[str, float]], points: Sequence[int]) -> None:
        self.measure, self.points = measure, set(points)
        self.taken = -1
        self.found: dict[str, list[float]] = {"step": []}
        self.step()

    def step(self) -> None:
        """Count a step, and measure the network if that is one of the points."""
        self.taken += 1
        if self.taken in self.points:
            for name, value in {"step": self.taken, **self.measure()}.items():
                self.found.setdefault(name, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the step and what was measured so far."""
        return {"taken": self.taken, "found": self.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore both."""
        self.taken, self.found = state["taken"], state["found"]


def answers(trainer: Trainer, network: nn.Module, splits: Splits) -> dict[str, float]:
    """Return the accuracy on forget and test set, and the AUC of the loss threshold, with 95 % intervals."""
    labels, (attacked, members) = trainer.pool.labels, attacked_rows(splits, trainer.pool.labels)
    observed = np.sort(np.concatenate([splits.forget, splits.test]))
    logits = trainer.logits(network, observed, 1)[:, 0]
    right = {
        part: accuracy(logits[np.searchsorted(observed, rows)], labels[rows])
        for part, rows in {"forget": splits.forget, "test": splits.test}.items()
    }
    count = len(splits.forget)
    low, high = clopper_pearson(round(right["forget"] * count), count)
    losses = cross_entropy(logits[np.searchsorted(observed, attacked)], labels[attacked])
    auc, auc_low, auc_high, _ = auc_interval(-losses[members], -losses[~members])
    return {
        "forget": right["forget"],
        "forget_low": low,
        "forget_high": high,
        "test": right["test"],
        "auc": auc,
        "auc_low": auc_low,
        "auc_high": auc_high,
    }
