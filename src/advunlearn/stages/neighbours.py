"""Stage `neighbours`: which other classes the examples of forgotten classes are taken for."""

from __future__ import annotations

from typing import cast

import numpy as np

from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import Neighbours
from advunlearn.evaluation.names import COMPARED
from advunlearn.evaluation.neighbours import floor, nearest_other, neighbour_distance
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.seeding import seed_sequence
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer

NEIGHBOURS_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`


def compare_neighbours(trainer: Trainer, splits: Splits, models: Models, manifest: Manifest) -> Neighbours | None:
    """Return the distance of the models' neighbour classes to retrained ones, from the store if available.

    None unless whole classes are forgotten: no retained example has a class of the forget set. The examples are the
    forget set and the test examples of its classes, all of which the retrained models have not seen.
    """
    labels = trainer.pool.labels
    if np.isin(labels[splits.retain], labels[splits.forget]).any():
        return None
    rows = np.concatenate([splits.forget, splits.test[np.isin(labels[splits.test], labels[splits.forget])]])
    key = {
        "schema": NEIGHBOURS_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.artefacts.items()},
        "rows": index_digest(rows),
    }
    with manifest.stage("neighbours") as stage:
        kept = trainer.store.get_or_make(
            "neighbours", key, lambda: Artefact(dict(measure(trainer, models, rows)), {}, {})
        )
        stage.note(reused=kept.reused, artefact=kept.digest)
    return cast("Neighbours", kept.record)


def measure(trainer: Trainer, models: Models, rows: Rows) -> Neighbours:
    """Return the distances of the original and the unlearned model to all retrained models."""
    classes, forgotten = trainer.pool.classes, np.unique(trainer.pool.labels[rows])
    order = np.sort(rows)
    assigned = {
        name: nearest_other(trainer.logits(network, order, 1)[:, 0], forgotten)
        for name, network in models.networks.items()
    }
    retrained = np.stack([found for name, found in assigned.items() if name not in COMPARED])
    seed = int(seed_sequence(trainer.settings.seed, "neighbours").generate_state(1)[0])
    return {
        "models": {name: neighbour_distance(assigned[name], retrained, classes, seed=seed) for name in COMPARED},
        "floor": floor(retrained, classes),
        "examples": len(rows),
        "references": len(retrained),
    }
