"""Stages `pretrain` (or `original`, if it is given), `retrain` and `unlearn`: the three models of a run."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.runs.manifest import Manifest, Stage
from advunlearn.stages.original import original
from advunlearn.stages.rounds import follow, unlearn_in_rounds
from advunlearn.stages.unlearn import Models, reference_set
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer


def repeat_stream(name: str) -> str:
    """Return the random stream of a retrained model beyond the first."""
    return f"retrained/{name}"


def make_models(experiment: Experiment, trainer: Trainer, splits: Splits, manifest: Manifest) -> Models:
    """Train or read the original, train the retrained model, and unlearn the forget set from the original."""
    models = Models({}, {}, reference_set(experiment, trainer, splits, splits.forget))

    def keep(name: str, stage: Stage, network: nn.Module, artefact: Artefact) -> None:
        models.networks[name], models.artefacts[name] = network, artefact
        stage.note(reused=artefact.reused, artefact=artefact.digest)

    given = experiment.weights_file is not None
    with manifest.stage("original" if given else "pretrain") as stage:
        keep("original", stage, *original(experiment, trainer, splits))
    with manifest.stage("retrain") as stage:
        keep("retrained", stage, *trainer.train(splits.retain, "retrained"))
        for name in experiment.shadow_options.repeats:
            models.networks[name], models.artefacts[name] = trainer.train(splits.retain, repeat_stream(name))
    with manifest.stage("unlearn") as stage:
        after = list(unlearn_in_rounds(experiment, trainer, splits, models))
        keep("unlearned", stage, *after[-1])
        if len(after) > 1:
            models = replace(models, rounds=follow(experiment, trainer, splits, models, after))
    manifest.note(reference_requests=models.requests)
    return models
