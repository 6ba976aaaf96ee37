"""Requests that are served one after the other: each starts from the unlearned model of the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from advunlearn.attacks.statistics import cross_entropy
from advunlearn.config.experiment import Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.requests import new_rows, requests
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import accuracy
from advunlearn.evaluation.metrics import auc_interval
from advunlearn.evaluation.metrics_file import Followed, Rounds
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.stages.unlearn import Models, reference_set, unlearn
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer


def request_splits(experiment: Experiment, splits: Splits, labels: Rows) -> list[Splits]:
    """Return the splits after each request of a run; see `requests`."""
    return requests(splits, labels, experiment.forget.rounds, numpy_stream(experiment.settings.seed, "rounds"))


def unlearn_in_rounds(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models
) -> Iterator[tuple[nn.Module, Artefact]]:
    """Yield the unlearned network after each request, from the store if available, and its artefact."""
    last = models.artefacts["original"]
    for part in request_splits(experiment, splits, trainer.pool.labels):
        references = reference_set(experiment, trainer, part, part.forget)
        current = replace(models, artefacts={**models.artefacts, "original": last}, references=references)
        network, last = unlearn(experiment, trainer, part, current)
        yield network, last


def follow(
    experiment: Experiment,
    trainer: Trainer,
    splits: Splits,
    models: Models,
    after: Sequence[tuple[nn.Module, Artefact]],
) -> Rounds:
    """Return how the model after each request, the original and the retrained model answer each request's examples."""
    new = new_rows(request_splits(experiment, splits, trainer.pool.labels))
    networks = [models.networks["original"], *(network for network, _ in after)]
    return {
        "examples": [len(rows) for rows in new],
        "models": [followed(trainer, network, new, splits.test) for network in networks],
        "retrained": followed(trainer, models.networks["retrained"], new, splits.test),
        "seconds": [artefact.record["seconds"] for _, artefact in after],
    }


def followed(trainer: Trainer, network: nn.Module, new: Sequence[Rows], test: Rows) -> Followed:
    """Return a model's accuracy on each request's examples, and the AUC of its loss against comparable test examples.

    Args:
        trainer: of the run.
        network: the model.
        new: the rows of each request.
        test: the rows of the test set.

    Raises:
        UserError: see `comparable`; `check_parts` raises it before any training.
    """
    labels, found = trainer.pool.labels, Followed(accuracy=[], auc=[])
    observed = np.sort(np.concatenate([*new, test]))
    logits = trainer.logits(network, observed, 1)[:, 0]
    for rows in new:
        members, others, _ = comparable(labels[rows], labels[test])
        where, inside, outside = (np.searchsorted(observed, each) for each in (rows, rows[members], test[others]))
        found["accuracy"].append(accuracy(logits[where], labels[rows]))
        losses = cross_entropy(logits, labels[observed])
        found["auc"].append(auc_interval(-losses[inside], -losses[outside])[0])
    return found
