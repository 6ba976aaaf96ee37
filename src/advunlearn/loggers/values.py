"""What has a place in a tracker, of what `metrics.json` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from advunlearn.evaluation.comparison import gaps_of
from advunlearn.evaluation.metrics_file import Metrics, Trace


def trace_values(trace: Trace) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield section, step and values: `game` for each audit step, `epochs` for each epoch that was judged."""
    yield from _rows("game", trace.get("step", []), trace)
    if "epochs" in trace:
        yield from _rows("epochs", trace["epochs"]["step"], trace["epochs"])


def _rows(
    section: str, steps: Sequence[int], columns: Mapping[str, object]
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield the columns of a trace that have a value for each step, step by step, without values that are None."""
    known = {
        name: column
        for name, column in columns.items()
        if name != "step" and isinstance(column, list) and len(column) == len(steps)
    }
    for position, step in enumerate(steps):
        row = {name: column[position] for name, column in known.items()}
        yield section, step, {name: value for name, value in row.items() if value is not None}


def metric_values(metrics: Metrics) -> Iterator[tuple[str, float]]:
    """Yield the name and value of each metric."""
    for model, found in metrics["models"].items():
        for part, value in found["accuracy"].items():
            yield f"{model}/accuracy_{part}", value
        yield f"{model}/loss_ks", found["loss_ks"]
        yield f"{model}/loss_wasserstein", found["loss_wasserstein"]
        for attack, each in found["attacks"].items():
            yield f"{model}/auc_{attack}", each["auc"]
    for compared, gap in metrics["gap"].items():
        for attack, value in gaps_of(gap).items():
            yield f"gap/{compared}_{attack}".replace(" ", "_"), value
    if "selection" in metrics:
        for model, judged in metrics["selection"]["models"].items():
            yield f"selection/{model}_accuracy", judged["accuracy"]
            yield f"selection/{model}_attack_auc", judged["attack_auc"]
            yield f"selection/{model}_utility", judged["utility"]
    yield "time/unlearning_over_retraining", metrics["unlearning_over_retraining"]
