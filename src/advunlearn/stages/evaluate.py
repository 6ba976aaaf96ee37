"""Stage `evaluate`: the comparison of the three models, as numbers with intervals."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.attack_metrics import AlgorithmMetrics, AttackMetrics, Questions
from advunlearn.evaluation.comparison import algorithm_gap, gap, measure, measure_algorithm, measure_attack
from advunlearn.evaluation.further_metrics import (
    CanaryTest,
    Distributions,
    Neighbours,
    Relearning,
    Retained,
    Selection,
    Swap,
    WeightSpace,
)
from advunlearn.evaluation.metrics_file import Gap, GivenOriginal, Memorization, Metrics, ModelMetrics, Resources
from advunlearn.evaluation.names import COMPARED, MODELS, ComparedName, ModelName, PartName
from advunlearn.evaluation.paired import auc_difference
from advunlearn.report.run.table import memorization_in_words
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.stages.attack import Evidence
from advunlearn.stages.control import judge_control, probe_retrained
from advunlearn.stages.unlearn import Models

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Further:
    """What further stages found, by their names; None of a stage without a result."""

    weights: WeightSpace | None = None
    distributions: Distributions | None = None
    selection: Selection | None = None
    neighbours: Neighbours | None = None
    relearning: Relearning | None = None
    retained: Retained | None = None
    canaries: CanaryTest | None = None
    swap: Swap | None = None


def evaluate(
    experiment: Experiment,
    splits: Splits,
    models: Models,
    evidence: Evidence,
    given: GivenOriginal | None = None,
    chosen: Memorization | None = None,
    further: Further | None = None,
) -> Metrics:
    """Return the contents of `metrics.json`: the three models, and two of them compared with the retrained one.

    Args:
        experiment, splits, models, evidence: of the run.
        given: what is known of an original that was given.
        chosen: the memorization of the forget set according to the models that chose it, if models did.
        further: of stages that a run may lack.
    """
    measured = {name: measure_model(experiment, splits, evidence, name) for name in MODELS}
    algorithm = _measure_algorithms(evidence, experiment.seed_of("audit"))
    record = evidence.artefact.record
    stages = zip(("pretrain", "retrain", "unlearn"), MODELS, strict=True)
    records = {stage: models.artefacts[name].record for stage, name in stages}
    seconds = {stage: record["seconds"] for stage, record in records.items() if "seconds" in record}
    if models.references is not None:
        seconds["references"] = models.artefacts["unlearned"].record["reference_seconds"]
    if models.rounds is not None:
        seconds["unlearn"] = sum(models.rounds["seconds"])
    metrics: Metrics = {
        "schema": 1,
        "models": measured,
        "gap": {name: _gap(experiment, evidence, measured, algorithm, name) for name in COMPARED},
        "algorithm": algorithm,
        "seconds": seconds | record["seconds"],
        "unlearning_over_retraining": seconds.get("unlearn", math.nan) / seconds.get("retrain", math.nan),
        "references_over_retraining": seconds.get("references", 0.0) / seconds.get("retrain", math.inf),
        "trace": models.artefacts["unlearned"].record["trace"],
    }
    if "unlearn" in seconds:
        metrics["unlearning"] = _resources(experiment, models)
    if given is not None:
        metrics["original"] = given
    metrics = cast("Metrics", {**metrics, **_known(further or Further())})
    if models.rounds is not None:
        metrics["rounds"] = models.rounds
    metrics["probe"] = probe_retrained(experiment, evidence)
    if (judged := judge_control(experiment, evidence, metrics["probe"])) is not None:
        metrics["control"] = judged
    if (found := _memorization(experiment, evidence) or chosen) is not None:
        metrics["memorization"] = found
        logger.info(memorization_in_words(found))
    if (shares := record.get("true_label")) is not None:
        wrong = {name: measured[name]["accuracy"]["forget"] for name in MODELS}
        metrics["mislabelled"] = {name: {"wrong_label": wrong[name], "true_label": shares[name]} for name in MODELS}
    return metrics


def _gap(
    experiment: Experiment,
    evidence: Evidence,
    measured: Mapping[ModelName, ModelMetrics],
    algorithm: Mapping[str, Questions],
    name: ComparedName,
) -> Gap:
    """Return how far a model lies from the retrained one; of attacks on one model, with intervals."""
    (_, ours), (_, retrained) = evidence.of(name), evidence.of("retrained")
    of_two = {each for each, attack in experiment.attacks.items() if attack.needs_original}
    ends = {
        key: auc_difference(
            score,
            retrained[key],
            evidence.members,
            cross_fitted=experiment.attacks[key.split("/")[0]].cross_fitted,
        )
        for key, score in ours.items()
        if key.split("/")[0] not in of_two
    }
    return {
        **gap(measured[name], measured["retrained"], without=of_two),
        "attacks_low": {key: low for key, (_, low, _) in ends.items()},
        "attacks_high": {key: high for key, (_, _, high) in ends.items()},
        "algorithm": algorithm_gap(algorithm, name),
    }


def _known(further: Further) -> dict[str, object]:
    """Return what further stages found, without those that found nothing."""
    return {name: found for name, found in vars(further).items() if found is not None}


def _memorization(experiment: Experiment, evidence: Evidence) -> Memorization | None:
    """Return how much the attacks' shadow models memorize the forget set; None without such models."""
    mean = evidence.artefact.record.get("memorization")  # which older results lack
    if mean is None:
        return None
    models = experiment.shadow_options.shadows
    return {"mean": mean, "examples": int(evidence.members.sum()), "models": models, "chosen_by_it": False}


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
            seed=experiment.seed_of("audit"),
            cross_fitted=attack.cross_fitted,
            shadows=model_count(attack, experiment.shadow_options),
            figures=record["figures"][name].get(key),
            threshold=record.get("thresholds", {}).get(key),  # which older results lack
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
