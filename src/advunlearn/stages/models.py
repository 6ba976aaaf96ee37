"""Stages `pretrain` (or `original`, if it is given), `retrain` and `unlearn`: the three models of a run."""

from __future__ import annotations

from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.runs.manifest import Manifest, Stage
from advunlearn.stages.original import original
from advunlearn.stages.unlearn import Models, reference_set, unlearn
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer


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
    with manifest.stage("unlearn") as stage:
        keep("unlearned", stage, *unlearn(experiment, trainer, splits, models))
    manifest.note(reference_requests=models.requests)
    return models
