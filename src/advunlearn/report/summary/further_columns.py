"""The columns of a summary for which a terminal has no room: what further stages find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from advunlearn.evaluation.further_metrics import DistributionMetrics, Relearning, WeightMetrics
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import ModelName
from advunlearn.report.run.further import widest_gap
from advunlearn.report.summary.columns import DIFFERENCE, POSITIVE, RATE, Column

_RETRAINED: Final = "retrained"
_UNLEARNED: Final = "unlearned"


def further_columns() -> list[Column]:
    """Return the columns for which a terminal has no room; those that no run has are left out."""
    return [
        _of_relearning("accuracy forget", lambda found, model: found["models"][model]["forget"][-1], RATE),
        _of_relearning("widest gap", lambda found, model: widest_gap(found, model, "forget"), DIFFERENCE),
        Column("canaries", "AUC", "canaries_auc", "", _canaries, terminal=False),
        Column("neighbour classes", "distance", "neighbour_distance", "", _neighbours, wanted="lower", terminal=False),
        Column("swap", "advantage", "swap_advantage", "", _advantage, wanted="zero", terminal=False),
        _of_distributions("KLoM forget", lambda found: found["klom"]["forget"]),
        _of_distributions("forgetting quality", lambda found: found["forgetting_quality"]),
        _of_weights("from original", lambda found: found["from_original"]),
        _of_weights("barrier test", lambda found: found["barrier"]["test"]),
        Column("audit", "control passed", "control_passed", "", _control_passed, wanted="higher", terminal=False),
        Column("memory", "MB", "peak_memory_mb", "", _peak_memory, POSITIVE, "lower", digits=0, terminal=False),
    ]


def of_retained(attack: str) -> Column:
    """Return the column of an attack's AUC on retained examples."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["retained"]["models"][model].get(attack) if "retained" in metrics else None
        return None if found is None else found["auc"]

    return Column("retained AUC", attack, "retained_auc", attack, find, terminal=False)


def _of_relearning(name: str, measure: Callable[[Relearning, ModelName], float], bounds: tuple[float, float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        return measure(metrics["relearning"], model) if "relearning" in metrics else None

    return Column("relearning", name, f"relearning_{name}".replace(" ", "_"), "", find, bounds, terminal=False)


def _canaries(metrics: Metrics, model: ModelName) -> float | None:
    return metrics["canaries"]["models"][model]["auc"] if "canaries" in metrics else None


def _advantage(metrics: Metrics, model: ModelName) -> float | None:
    return metrics["swap"]["models"][model]["advantage"] if "swap" in metrics else None


def _of_distributions(name: str, measure: Callable[[DistributionMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["distributions"]["models"] if "distributions" in metrics else {}
        return measure(found[model]) if model in found else None

    bounds = POSITIVE if name.startswith("KLoM") else RATE
    return Column("many models", name, name.lower().replace(" ", "_"), "", find, bounds, terminal=False)


def _of_weights(name: str, measure: Callable[[WeightMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["weights"]["models"] if "weights" in metrics else {}
        return measure(found[model]) if model in found else None

    return Column("weights", name, f"weights_{name}".replace(" ", "_"), "", find, POSITIVE, terminal=False)


def _neighbours(metrics: Metrics, model: ModelName) -> float | None:
    """Return the distance of the neighbour classes to retrained models; of these, the floor, if it is known."""
    if (found := metrics.get("neighbours")) is None:
        return None
    return found["floor"] if model == _RETRAINED else found["models"][model]["distance"]


def _control_passed(metrics: Metrics, model: ModelName) -> float | None:
    """Return 1 if the control of the audit passed, 0 if not; it is a retrained model."""
    found = metrics.get("control")
    return None if found is None or model != _RETRAINED else float(not found["failed"])


def _peak_memory(metrics: Metrics, model: ModelName) -> float | None:
    """Return the peak memory of unlearning on CUDA; that of the CPU depends on what the process did before."""
    found = metrics.get("unlearning")
    if model != _UNLEARNED or found is None or found["device"] != "cuda" or found["peak_memory"] is None:
        return None
    return found["peak_memory"] / 1e6
