"""Numbers of the three models that come from many models, and from their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from advunlearn.evaluation.further_metrics import Relearning
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import COMPARED, MODELS, ModelName

MATCH = "match retrained"
NO_TARGET = "no target"

# Section and name; the values of the three models; the direction; what they were computed on.
Numbers = tuple[str, str, Sequence[tuple[float, ...]], str, str]


def further_numbers(metrics: Metrics) -> Iterator[Numbers]:
    """Yield what further stages found, each by a function of its name; nothing of a stage without a result."""
    yield from _relearning(metrics)
    yield from _retained(metrics)
    yield from _canaries(metrics)
    yield from _neighbours(metrics)
    yield from _swap(metrics)
    yield from _distributions(metrics)
    yield from _weights(metrics)


def reasons(metrics: Metrics) -> Iterator[str]:
    """Yield why one of these stages has no result, in words."""
    if "weights" in metrics and (reason := metrics["weights"]["reason"]):
        yield f"no distance between weights: {reason}"
    if "distributions" in metrics and (reason := metrics["distributions"]["reason"]):
        yield f"no KLoM and no forgetting quality: {reason}"


def _relearning(metrics: Metrics) -> Iterator[Numbers]:
    """Yield what the models answer after fine-tuning on the retain set, and where they differ most on the way."""
    if (found := metrics.get("relearning")) is None:
        return
    models = [found["models"][name] for name in MODELS]
    section, forget = "relearning", f"{found['examples']['forget']} forget"
    after = f"after {found['epochs']} epochs"
    ends = [(each["forget"][-1], each["forget_low"][-1], each["forget_high"][-1]) for each in models]
    yield section, "accuracy forget", ends, MATCH, f"{forget}, {after}"
    test = [(each["test"][-1],) for each in models]
    yield section, "accuracy test", test, "higher", f"{found['examples']['test']} test, {after}"
    ends = [(each["auc"][-1], each["auc_low"][-1], each["auc_high"][-1]) for each in models]
    attacked = f"{found['attacked']['forget']} forget, {found['attacked']['test']} test"
    yield section, "AUC of the loss", ends, MATCH, f"{attacked}, {after}"
    yield section, "widest gap accuracy", [(widest_gap(found, name, "forget"),) for name in MODELS], MATCH, forget
    yield section, "widest gap AUC", [(widest_gap(found, name, "auc"),) for name in MODELS], MATCH, attacked


def _retained(metrics: Metrics) -> Iterator[Numbers]:
    """Yield what each attack finds of retained examples."""
    if (found := metrics.get("retained")) is None:
        return
    models = [found["models"][name] for name in MODELS]
    on = f"{found['examples']['retain']} retain, {found['examples']['test']} test"
    for attack in models[0]:
        each = [model[attack] for model in models]
        yield "retained, AUC", attack, [(one["auc"], one["auc_low"], one["auc_high"]) for one in each], MATCH, on
    for attack in models[0]:
        rates = [
            (one["tpr_at_fpr_0.01"], one["tpr_at_fpr_0.01_low"], one["tpr_at_fpr_0.01_high"])
            for one in (model[attack] for model in models)
        ]
        yield "retained, TPR at 1% FPR", attack, rates, MATCH, on


def _canaries(metrics: Metrics) -> Iterator[Numbers]:
    """Yield how well each model's gradients show the noise of the forget set."""
    if (found := metrics.get("canaries")) is None:
        return
    models, on = [found["models"][name] for name in MODELS], f"{found['examples']} forget, known null"
    yield "canaries", "AUC", [(one["auc"], one["auc_low"], one["auc_high"]) for one in models], MATCH, on
    rates = [(one["tpr_at_fpr_0.01"], one["tpr_at_fpr_0.01_low"], one["tpr_at_fpr_0.01_high"]) for one in models]
    yield "canaries", "TPR at 1% FPR", rates, MATCH, on
    yield "canaries", "p value", [(one["p_value"],) for one in models], NO_TARGET, on


def _swap(metrics: Metrics) -> Iterator[Numbers]:
    """Yield the advantage over both splits of a swap."""
    if (found := metrics.get("swap")) is None:
        return
    models = [found["models"][name] for name in MODELS]
    values = [(one["advantage"], one["advantage_low"], one["advantage_high"]) for one in models]
    yield "swap", "advantage", values, MATCH, f"{found['examples']} forget, {found['examples']} test"


def widest_gap(found: Relearning, model: ModelName, number: Literal["forget", "auc"]) -> float:
    """Return a model's accuracy on the forget set, or AUC, less the retrained model's, where that is widest."""
    pairs = zip(found["models"][model][number], found["models"]["retrained"][number], strict=True)
    return max((ours - theirs for ours, theirs in pairs), key=abs)


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

    floor = math.nan if found["floor"] is None else found["floor"]
    yield section, "distance", row("distance", floor), "lower", on
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
