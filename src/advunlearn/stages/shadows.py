"""Stage `shadows`: the models that attacks use, which shards of a run may train before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.shadows.originals import OriginalSet
from advunlearn.shadows.shadow_set import ShadowSet, shadow_pool
from advunlearn.stages.unlearn import make_task, reference_set, run_unlearner, unlearner_identity
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer


def shadow_set(experiment: Experiment, trainer: Trainer, splits: Splits) -> ShadowSet:
    """Return the shadow models of a run; their outputs are stored for every row that an attack may need."""
    trainer = trainer.seeded(experiment.seed_of("audit"))
    pool = shadow_pool(splits.train, splits.test, trainer.settings.seed)
    observed = np.sort(np.concatenate([splits.train, splits.test, splits.selection]))
    return ShadowSet(trainer, experiment.shadow_options, pool, observed)


def original_set(experiment: Experiment, trainer: Trainer, splits: Splits) -> OriginalSet:
    """Return the shadow originals of a run, which are unlearned like its own original."""
    references = reference_set(experiment, trainer, splits, splits.test)

    def unlearn(
        trainer: Trainer,
        network: nn.Module,
        retain: NDArray[np.int64],
        forget: NDArray[np.int64],
        checkpoint: Checkpoint,
    ) -> nn.Module:
        task = make_task(trainer, splits, retain, forget, references, checkpoint)
        return run_unlearner(experiment, network, task).network

    return OriginalSet(
        trainer.seeded(experiment.seed_of("audit")),
        experiment.shadow_options,
        retain=splits.retain,
        forget=splits.forget,
        test=splits.test,
        population=splits.selection,
        unlearn=unlearn,
        unlearner=unlearner_identity(experiment, splits, references),
    )
