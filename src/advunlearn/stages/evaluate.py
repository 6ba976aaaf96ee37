"""Stage `evaluate`: the comparison of the three models, as numbers with intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import gap, measure, measure_algorithm, measure_attack
from advunlearn.evaluation.metrics_file import (
    COMPARED,
    MODELS,
    AlgorithmMetrics,
    AttackMetrics,
    GivenOriginal,
    Metrics,
    ModelMetrics,
    ModelName,
    PartName,
    Resources,
)
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.stages.attack import Evidence
from advunlearn.stages.unlearn import Models


def evaluate(
    experiment: Experiment, splits: Splits, models: Models, evidence: Evidence, given: GivenOriginal | None = None
) -> Metrics:
    """Return the contents of `metrics.json`: the three models, and two of them compared with the retrained one."""
    measured = {name: measure_model(experiment, splits, evidence, name) for name in MODELS}
    record = evidence.artefact.record
    stages = zip(("pretrain", "retrain", "unlearn"), MODELS, strict=True)
    records = {stage: models.artefacts[name].record for stage, name in stages}
    seconds = {stage: record["seconds"] for stage, record in records.items() if "seconds" in record}
    if models.references is not None:
        seconds["references"] = models.artefacts["unlearned"].record["reference_seconds"]
    metrics: Metrics = {
        "schema": 1,
        "models": measured,
        "gap": {name: gap(measured[name], measured["retrained"]) for name in COMPARED},
        "algorithm": _measure_algorithms(evidence, experiment.settings.seed),
        "seconds": seconds | record["seconds"],
        "unlearning_over_retraining": seconds.get("unlearn", math.nan) / seconds.get("retrain", math.nan),
        "references_over_retraining": seconds.get("references", 0.0) / seconds.get("retrain", math.inf),
        "trace": models.artefacts["unlearned"].record["trace"],
    }
    if "unlearn" in seconds:
        metrics["unlearning"] = _resources(experiment, models)
    if given is not None:
        metrics["original"] = given
    return metrics


def _resources(experiment: Experiment, models: Models) -> Resources:
    device = "cuda" if experiment.settings.torch_device().type == "cuda" else "cpu"
    memory = models.artefacts["unlearned"].record.get("peak_memory")  # which older results lack
    return {"reads": list(experiment.unlearner.parts_read()), "peak_memory": memory, "device": device}


def measure_model(experiment: Experiment, splits: Splits, evidence: Evidence, name: ModelName) -> ModelMetrics:
    """Return the numbers of one model."""
    record = evidence.artefact.record
    examples: dict[PartName, int] = {
        "retain": len(splits.retain),
        "forget": len(splits.forget),
        "test": len(splits.test),
    }
    losses, scores = evidence.of(name)

    def measured(key: str, score: NDArray[np.float64]) -> AttackMetrics:
        attack = experiment.attacks[key.split("/")[0]]
        return measure_attack(
            score,
            evidence.members,
            seed=experiment.settings.seed,
            cross_fitted=attack.cross_fitted,
            shadows=model_count(attack, experiment.shadow_options),
            figures=record["figures"][name].get(key),
        )

    attacks = {key: measured(key, score) for key, score in scores.items()}
    return measure(record["accuracy"][name], examples, losses, evidence.members, attacks)


def _measure_algorithms(evidence: Evidence, seed: int) -> dict[str, dict[str, dict[ModelName, AlgorithmMetrics]]]:
    found: dict[str, dict[str, dict[ModelName, AlgorithmMetrics]]] = {}
    for attack, question, model, ratios in evidence.of_algorithm():
        found.setdefault(attack, {}).setdefault(question, {})[model] = measure_algorithm(ratios, seed=seed)
    return found


def model_count(attack: Attack, options: ShadowOptions) -> int:
    """Return the number of shadow models, or shadow originals, of an attack."""
    return options.originals if attack.needs_originals else options.shadows * attack.needs_shadows
