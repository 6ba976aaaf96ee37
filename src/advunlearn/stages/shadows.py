"""Stage `shadows`: the models that attacks use, which shards of a run may train before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.curves import unheard
from advunlearn.shadows.originals import OriginalRows, OriginalSet
from advunlearn.shadows.shadow_set import ShadowSet, shadow_pool
from advunlearn.stages.unlearn import drawn_like, make_task, reference_set, run_unlearner, unlearner_identity
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer


def shadow_set(experiment: Experiment, trainer: Trainer, splits: Splits) -> ShadowSet:
    """Return the shadow models of a run; their outputs are stored for every row that an attack may need."""
    trainer = trainer.seeded(experiment.seed_of("audit"))
    pool = shadow_pool(splits.train, splits.test, trainer.settings.seed)
    observed = np.sort(np.concatenate([splits.train, splits.test, splits.selection]))
    return ShadowSet(trainer, experiment.shadow_options, pool, observed)


@dataclass(frozen=True)
class UnlearnAlike:
    """Unlearn a shadow original as the run's own original is unlearned; see `OriginalSet.unlearn`."""

    experiment: Experiment
    splits: Splits
    references: ShadowSet | None

    def __call__(
        self, trainer: Trainer, network: nn.Module, retain: Rows, forget: Rows, checkpoint: Checkpoint
    ) -> nn.Module:
        """Return the unlearned network."""
        task = make_task(trainer, self.splits, retain, forget, self.references, checkpoint)
        with unheard():
            return run_unlearner(self.experiment, network, task).network


def original_set(experiment: Experiment, trainer: Trainer, splits: Splits) -> OriginalSet:
    """Return the shadow originals of a run, which are unlearned like its own original."""
    references = original_references(experiment, trainer, splits)
    return OriginalSet(
        trainer.seeded(experiment.seed_of("audit")),
        experiment.shadow_options,
        retain=splits.retain,
        forget=splits.forget,
        test=splits.test,
        population=splits.selection,
        unlearn=UnlearnAlike(experiment, splits, references),
        unlearner=unlearner_identity(experiment, splits, references),
    )


def original_references(experiment: Experiment, trainer: Trainer, splits: Splits) -> ShadowSet | None:
    """Return the reference models for unlearning the shadow originals; None if the unlearner uses none.

    Those of the run are trained on rows that include the original's. Those that are trained as a retrained model is are
    here drawn from the rows of all originals: to each of them, the rows of the others are what audit examples are to
    the run.
    """
    if experiment.unlearner.reference_rows() == "half":
        return reference_set(experiment, trainer, splits, splits.test)
    labels, observed = trainer.pool.labels, np.unique(np.concatenate([splits.train, splits.audit, splits.test]))
    rows = OriginalRows(splits.retain, splits.forget, splits.test, labels, experiment.seed_of("audit"))
    retain, _ = rows.parts(0)
    pool = np.concatenate([rows.rest, rows.candidates])
    return drawn_like(retain, pool, observed, trainer, experiment.unlearner.reference_models())
