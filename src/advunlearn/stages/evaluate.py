"""Stage `evaluate`: the three models side by side, as numbers with intervals."""

from __future__ import annotations

from typing import Any

from advunlearn.attacks.attack import Attack
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import MODELS, gap, measure, measure_algorithm
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.stages.attack import Evidence
from advunlearn.stages.unlearn import Models


def evaluate(experiment: Experiment, splits: Splits, models: Models, evidence: Evidence) -> dict[str, Any]:
    """Return the contents of `metrics.json`: three models side by side, and two of them held against the retrained."""
    record = evidence.artefact.record
    examples = {"retain": len(splits.retain), "forget": len(splits.forget), "test": len(splits.test)}
    measured = {}
    for name in MODELS:
        losses, scores = evidence.of(name)
        attacks = {key: experiment.attacks[key.split("/")[0]] for key in scores}
        measured[name] = measure(
            record["accuracy"][name],
            examples,
            losses,
            scores,
            evidence.members,
            {key: models_behind(attack, experiment.shadow_options) for key, attack in attacks.items()},
            {key for key, attack in attacks.items() if attack.cross_fitted},
            record["figures"][name],
            seed=experiment.settings.seed,
        )
    algorithm: dict[str, Any] = {}
    for attack, question, model, ratios in evidence.of_algorithm():
        found = measure_algorithm(ratios, seed=experiment.settings.seed)
        algorithm.setdefault(attack, {}).setdefault(question, {})[model] = found
    stages = zip(("pretrain", "retrain", "unlearn"), MODELS, strict=True)
    seconds = {stage: models.artefacts[name].record["seconds"] for stage, name in stages}
    if models.references is not None:
        seconds["references"] = models.artefacts["unlearned"].record["reference_seconds"]
    return {
        "schema": 1,
        "models": measured,
        "gap": {name: gap(measured[name], measured["retrained"]) for name in ("original", "unlearned")},
        "algorithm": algorithm,
        "seconds": seconds | record["seconds"],
        "unlearning_over_retraining": seconds["unlearn"] / seconds["retrain"],
        "references_over_retraining": seconds.get("references", 0.0) / seconds["retrain"],
        "trace": models.artefacts["unlearned"].record["trace"],
    }


def models_behind(attack: Attack, options: ShadowOptions) -> int:
    """Return how many shadow models, or shadow originals, an attack compares with."""
    return options.originals if attack.needs_originals else options.shadows * attack.needs_shadows
