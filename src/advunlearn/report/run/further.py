"""Numbers of the three models that come from many models, and from their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from advunlearn.evaluation.metrics_file import COMPARED, MODELS, Metrics

MATCH = "match retrained"
NO_TARGET = "no target"

# Section and name; the values of the three models; the direction; what they were computed on.
Numbers = tuple[str, str, Sequence[tuple[float, ...]], str, str]


def further_numbers(metrics: Metrics) -> Iterator[Numbers]:
    """Yield what the stages `neighbours`, `distributions` and `weights` found; nothing of a stage without a result."""
    yield from _neighbours(metrics)
    yield from _distributions(metrics)
    yield from _weights(metrics)


def reasons(metrics: Metrics) -> Iterator[str]:
    """Yield why one of these stages has no result, in words."""
    if "weights" in metrics and (reason := metrics["weights"]["reason"]):
        yield f"no distance between weights: {reason}"
    if "distributions" in metrics and (reason := metrics["distributions"]["reason"]):
        yield f"no KLoM and no forgetting quality: {reason}"


def _neighbours(metrics: Metrics) -> Iterator[Numbers]:
    """Yield how far the neighbour classes of forgotten classes are from those of retrained models."""
    if (found := metrics.get("neighbours")) is None:
        return
    original, unlearned = (found["models"][name] for name in COMPARED)
    on, section = f"{found['examples']} of the class, {found['references']} retrained", "neighbour classes"

    def row(
        key: Literal["distance", "null_high", "p_value"], retrained: float | None = None
    ) -> list[tuple[float, ...]]:
        return [(original[key],), (math.nan if retrained is None else retrained,), (unlearned[key],)]

    yield section, "distance", row("distance", found["floor"]), "lower", on
    yield section, "chance of examples", row("null_high"), NO_TARGET, on
    yield section, "p value", row("p_value"), NO_TARGET, on


def _distributions(metrics: Metrics) -> Iterator[Numbers]:
    """Yield how far many models are from retrained ones; the retrained models are others than those."""
    if (found := metrics.get("distributions")) is None or not found["models"]:
        return
    models = [found["models"][name] for name in MODELS]
    section, each = "many models", f"{found['each']} and {found['each']} models"
    for part, count in found["examples"].items():
        yield section, f"KLoM {part}", [(model["klom"][part],) for model in models], MATCH, f"{count} {part}, {each}"
    on = f"{found['examples']['forget']} forget, {each}"
    yield section, "forgetting quality", [(model["forgetting_quality"],) for model in models], MATCH, on
    yield section, "competition score", [(model["competition_score"],) for model in models], MATCH, on


def _weights(metrics: Metrics) -> Iterator[Numbers]:
    """Yield how far the weights lie from those of the original and the retrained model."""
    if (found := metrics.get("weights")) is None or not found["models"]:
        return
    models = [found["models"][name] for name in MODELS]
    yield "weights", "from original", [(model["from_original"],) for model in models], NO_TARGET, "all parameters"
    yield "weights", "from retrained", [(model["from_retrained"],) for model in models], NO_TARGET, "all parameters"
    for part, count in found["examples"].items():
        on = f"{count} {part}, {found['points']} points"
        yield "weights", f"barrier {part}", [(model["barrier"][part],) for model in models], NO_TARGET, on
