"""The attacks alone, on one model that is given."""

from __future__ import annotations

from advunlearn.config.experiment import Experiment
from advunlearn.evaluation.metrics_file import AUDIT, ModelMetrics
from advunlearn.evaluation.names import ModelName
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.profile import profiled
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.attack import attack_models
from advunlearn.stages.data import prepare
from advunlearn.stages.evaluate import measure_model
from advunlearn.stages.memorization import choose_forget_set
from advunlearn.stages.original import given_original, original, provenance
from advunlearn.stages.report import scores_of, write_scores
from advunlearn.stages.unlearn import Models
from advunlearn.storage.files import write_json

MODEL: ModelName = "original"


def audit_model(experiment: Experiment, manifest: Manifest) -> ModelMetrics:
    """Attack the given original and return its numbers; write `audit.json` and `scores.npz` into the folder.

    Raises:
        UserError: in one line, if the data is not available, or an attack cannot work with these options.
    """
    if two := [name for name, attack in experiment.attacks.items() if attack.needs_original]:
        raise UserError(f"attack={two[0]} compares a model with the original (try advunlearn run attack={two[0]})")
    settings, folder = experiment.settings, manifest.folder
    with (
        clean_state(settings.seed),
        settings.switches(),
        profiled(folder, settings.torch_device(), wanted=settings.profile) as manifest.profile,
    ):
        manifest.computes(settings.torch_device(), settings.seed)
        experiment, trainer, splits = prepare(experiment, manifest)
        given = given_original(experiment, splits)
        manifest.note(original=provenance(experiment, given))
        experiment, splits, _ = choose_forget_set(experiment, trainer, splits, manifest)
        network, artefact = original(experiment, trainer, splits)
        evidence = attack_models(
            experiment, trainer, splits, Models({MODEL: network}, {MODEL: artefact}, None), manifest
        )
        found = measure_model(experiment, splits, evidence, MODEL)
        write_json(folder / AUDIT, {"schema": 1, "model": given, "metrics": found})
        write_scores(folder, scores_of(trainer, evidence))
        manifest.checksum(AUDIT, "scores.npz", "splits.npz")
    return found
