"""Stage `selection`: the models on the selection set, which a search for options may use, unlike the test set."""

from __future__ import annotations

import numpy as np
from torch import nn

from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import Selection, SelectionMetrics
from advunlearn.evaluation.names import MODELS
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.unlearn import Models, make_task
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.best_epoch import BestEpoch

SELECTION_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`


def measure_selection(trainer: Trainer, splits: Splits, models: Models, manifest: Manifest) -> Selection | None:
    """Return the models' numbers on the selection set, from the store if available.

    None without selection examples of the forget set's classes.
    """
    labels = trainer.pool.labels
    if not np.isin(labels[splits.selection], labels[splits.forget]).any():
        return None
    key = {
        "schema": SELECTION_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.artefacts.items()},
        "rows": {"forget": index_digest(splits.forget), "selection": index_digest(splits.selection)},
    }

    def make() -> Artefact:
        return Artefact({name: judged(trainer, splits, models.networks[name]) for name in MODELS}, {}, {})

    with manifest.stage("selection") as stage:
        kept = trainer.store.get_or_make("selection", key, make)
        stage.note(reused=kept.reused, artefact=kept.digest)
    return {"models": {name: kept.record[name] for name in MODELS}, "examples": len(splits.selection)}


def judged(trainer: Trainer, splits: Splits, network: nn.Module) -> SelectionMetrics:
    """Return a network's numbers on the selection set; see `BestEpoch`."""
    task = make_task(trainer, splits, splits.retain, splits.forget, None)
    found = BestEpoch(network, task).measured(0)
    return {
        "accuracy": found["selection_accuracy"],
        "attack_auc": found["attack_auc"],
        "utility": found["utility"],
    }
