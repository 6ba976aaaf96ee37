"""Stage `unlearn`: the request to forget, and the unlearned model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.metrics_file import Rounds
from advunlearn.options import UserError
from advunlearn.runtime.memory import PeakMemory
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.shadows.shadow_set import ShadowSet, shadow_pool
from advunlearn.stages.original import original_key
from advunlearn.stages.repeated import Repeated
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import Diverged, place, too_large
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import load_weights
from advunlearn.unlearners.unlearner import Task, Unlearned, Unsound

# Raise it when the results of this code change: stored results of the old code are then not reused.
UNLEARN_SCHEMA = 6


@dataclass(frozen=True)
class Models:
    """The three models of a run by name, the artefacts that they were read from, and those that unlearning used.

    Attributes:
        networks, artefacts: by name.
        references: the unlearner's reference models, if it uses any.
        rounds: what is known of the requests, if there are several.
    """

    networks: dict[str, nn.Module]
    artefacts: dict[str, Artefact]
    references: ShadowSet | None
    rounds: Rounds | None = None

    @property
    def requests(self) -> int:
        """Return the number of requests to forget in the store that share these reference models, with this one."""
        if self.references is None:
            return 0
        shared = self.references.key(0)
        keys = self.references.trainer.store.keys("unlearned")
        same = [key for key in keys if key.get("references") == shared]
        return len({key["forget"] for key in same})


def reference_set(
    experiment: Experiment, trainer: Trainer, splits: Splits, forget: NDArray[np.int64]
) -> ShadowSet | None:
    """Return the unlearner's reference models, trained on random training and audit examples; most unlearners use none.

    If each is trained on half of these examples, they do not depend on the forget set, except for examples of `forget`
    that the original was not trained on: the store holds them once, for every request. If each is trained on as many
    as are retained, they serve all requests of the same size; see `drawn_like`.
    """
    unlearner = experiment.unlearner
    if unlearner.reference_models() == 0:
        return None
    pool = shadow_pool(splits.train, splits.audit, trainer.settings.seed, "reference")
    observed = np.unique(np.concatenate([splits.train, splits.audit, forget]))
    if unlearner.reference_rows() == "retained":
        return drawn_like(splits.retain, pool, observed, trainer, unlearner.reference_models())
    return ShadowSet(trainer, ShadowOptions(unlearner.reference_models()), pool, observed, "reference")


def drawn_like(
    retain: NDArray[np.int64], pool: NDArray[np.int64], observed: NDArray[np.int64], trainer: Trainer, count: int
) -> ShadowSet:
    """Return reference models that are trained as a retrained model is: on as many rows of the pool, of its classes.

    So a class that is forgotten as a whole is unknown to them as well.

    Raises:
        UserError: if there are so few that an example is not left out by at least two of them: what is expected of it
            after retraining would not be known.
    """
    labels = trainer.pool.labels
    of_classes = pool[np.isin(labels[pool], labels[retain])]
    found = ShadowSet(trainer, ShadowOptions(count), of_classes, observed, "reference", len(retain))
    if (enough := enough_references(found)) > count:
        raise UserError(
            f"auditor.references={count}: fewer than two reference models leave out some of the {len(of_classes)} "
            f"examples that they are drawn from (try auditor.references={enough})"
        )
    return found


def enough_references(references: ShadowSet) -> int:
    """Return how many reference models, an even number, leave out each example of their pool at least twice."""
    left_out = np.zeros(len(references.pool), np.int64)
    index = 0
    while index % 2 or left_out.min() < 2:
        left_out += ~np.isin(references.pool, references.rows(index))
        index += 1
    return index


def make_task(
    trainer: Trainer,
    splits: Splits,
    retain: NDArray[np.int64],
    forget: NDArray[np.int64],
    references: ShadowSet | None,
    checkpoint: Checkpoint | None = None,
    *,
    seed: int | None = None,
) -> Task:
    """Return the request to forget some of the rows that a model was trained on and to keep the others.

    `seed` is that of everything which the unlearner draws; None: that of the trainer.
    """
    examples, own = trainer.examples, trainer if seed is None else trainer.seeded(seed)
    return Task(
        retain=examples.subset(retain),
        forget=examples.subset(forget),
        audit=examples.subset(splits.audit),
        settings=own.settings,
        selection=examples.subset(splits.selection),
        retrain=lambda stream: own.fitted(retain, stream, checkpoint=checkpoint)[0],
        training=Repeated(trainer, retain, forget, checkpoint, seed),
        references=(references.observe(forget), references.observe(splits.audit)) if references else None,
        checkpoint=checkpoint,
    )


def unlearner_identity(experiment: Experiment, splits: Splits, references: ShadowSet | None) -> dict[str, Any]:
    """Return everything that determines how models are unlearned, except the forget set: a part of store keys."""
    return {
        "schema": UNLEARN_SCHEMA,
        "audit": index_digest(splits.audit),
        "selection": index_digest(splits.selection),
        "unlearner": experiment.unlearner.identity(),
        "references": references.key(0) if references else None,
    }


def unlearned_key(
    experiment: Experiment, trainer: Trainer, splits: Splits, original: Artefact, references: ShadowSet | None
) -> dict[str, Any]:
    """Return everything that determines the unlearned model: its key in the store."""
    return {
        **unlearner_identity(experiment, splits, references),
        "original": original_key(experiment, trainer, splits),
        "weights": original.content,
        "forget": index_digest(splits.forget),
        **experiment.separate("unlearning"),
    }


def run_unlearner(experiment: Experiment, network: nn.Module, task: Task) -> Unlearned:
    """Return the result of the run's unlearner for a trained network, which is changed in place.

    Raises:
        Diverged: with the options of the stage that diverged, the training or the unlearning.
    """
    try:
        return experiment.unlearner.run(network, task)
    except Unsound as error:
        raise Diverged(f"{error}; {too_large(experiment.optimizer, 'optimizer')}") from error


def unlearn(experiment: Experiment, trainer: Trainer, splits: Splits, models: Models) -> tuple[nn.Module, Artefact]:
    """Return the unlearned network, from the store if available; the record of its artefact holds the game's trace."""
    original, references = models.artefacts["original"], models.references
    key = unlearned_key(experiment, trainer, splits, original, references)

    def make() -> Artefact:
        checkpoint = trainer.checkpoint("unlearned", key)
        seed = experiment.seed_of("unlearning")
        task = make_task(trainer, splits, splits.retain, splits.forget, references, checkpoint, seed=seed)
        if experiment.weights_file is not None:
            task = replace(task, training=None)  # a given original was not trained by this run's recipe

        def run() -> tuple[nn.Module, dict[str, Any]]:
            with PeakMemory(trainer.settings.torch_device()) as memory:
                unlearned = run_unlearner(experiment, trainer.restore(original, "original"), task)
            spent = task.references[0].seconds if task.references else 0.0
            record = {"trace": unlearned.trace, "reference_seconds": spent, "peak_memory": memory.bytes}
            return unlearned.network, record

        return trainer.timed(run, checkpoint)

    artefact = trainer.store.get_or_make("unlearned", key, make)
    network = experiment.unlearner.result(lambda: trainer.built("original"))
    load_weights(network, artefact.tensors)
    return place(network, trainer.settings).eval(), artefact
