"""What a run returns to a search for options: one number, without the test set."""

from __future__ import annotations

import math

from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.runtime.settings import OBJECTIVES


def objective_of(metrics: Metrics, name: str) -> float | None:
    """Return the number that `objective=NAME` names, of the unlearned model; None if the run does not have it.

    Args:
        metrics: of the run.
        name: `utility`, `accuracy` or `attack` on the selection set, see `SelectionMetrics` (`attack` is the larger of
            the AUC and 1 - AUC); or `time`, of unlearning over that of retraining.

    Raises:
        ValueError: for another name.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name}")
    if name == "time":
        time = metrics["unlearning_over_retraining"]
        return time if math.isfinite(time) else None
    found = metrics.get("selection")
    if found is None:
        return None
    model = found["models"]["unlearned"]
    auc = model["attack_auc"]
    return {"utility": model["utility"], "accuracy": model["accuracy"], "attack": max(auc, 1 - auc)}[name]


def is_better(name: str, value: float, other: float) -> bool:
    """Return whether a value of this objective is better than another one."""
    return value > other if OBJECTIVES[name] == "maximize" else value < other
