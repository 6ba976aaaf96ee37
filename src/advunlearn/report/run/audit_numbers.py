"""The audit of the audit in a run's table and in words."""

from __future__ import annotations

from collections.abc import Iterator

from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.report.run.further import MATCH, Numbers


def control_numbers(metrics: Metrics) -> Iterator[Numbers]:
    """Yield the control for each attack: original, mean of the reference models, and the held-out retrained model.

    The interval of the last one holds the mean of the others if the control passes.
    """
    if (found := metrics.get("control")) is None:
        return
    on = f"retrained model {found['models']} as the unlearned one"
    for name, each in found["attacks"].items():
        original = metrics["models"]["original"]["attacks"][name]["auc"]
        ends = (each["reference"] + each["low"], each["reference"] + each["high"])
        yield "control", name, [(original,), (each["reference"],), (each["auc"], *ends)], MATCH, on


def audit_records(metrics: Metrics) -> Iterator[tuple[str, str, str, object]]:
    """Yield the lines of `metrics.csv`: the model, the attack, the metric and its value."""
    for attack, probed in metrics["probe"]["attacks"].items() if "probe" in metrics else ():
        yield from (("retrained", attack, f"probe_{name}", value) for name, value in probed.items())
    for attack, judged in metrics["control"]["attacks"].items() if "control" in metrics else ():
        yield from (("retrained", attack, f"control_{name}", value) for name, value in judged.items())


def audit_notes(metrics: Metrics) -> Iterator[str]:
    """Yield whether the audit can be trusted: what 0.5 is worth, and whether a retrained model passes."""
    yield from _probe(metrics)
    yield from _control(metrics)


def _probe(metrics: Metrics) -> Iterator[str]:
    """Yield one line if the comparison to 0.5 is void, and why."""
    if (found := metrics.get("probe")) is None or not found["void"]:
        return
    aucs = (
        f"{name} {(at := found['attacks'][name])['auc']:.3f} [{at['auc_low']:.3f}, {at['auc_high']:.3f}]"
        for name in found["void"]
    )
    why = (
        "of a random forget set that means that the test examples are of another distribution, or that the retrained "
        "model has seen the forget set; expected by chance in 1 of 20 audits"
        if found["sampled"]
        else "as can be expected, because the forget set is not a random sample"
    )
    yield (
        "the comparison to 0.5 is void, and the retrained model's value is the only reference: to the retrained model "
        f"forget and test examples differ (AUC of {', '.join(aucs)}), {why}"
    )


def _control(metrics: Metrics) -> Iterator[str]:
    """Yield whether the control passed."""
    if (found := metrics.get("control")) is None:
        return
    others = f"the other {found['models'] - 1} retrained models"
    if not found["failed"]:
        yield (
            f"control passed: a retrained model in the place of the unlearned one is within its interval of {others} "
            f"under {_all(len(found['attacks']))}"
        )
        return
    apart = (
        f"{name} ({(at := found['attacks'][name])['difference']:+.3f} [{at['low']:+.3f}, {at['high']:+.3f}])"
        for name in found["failed"]
    )
    yield (
        f"control FAILED: a retrained model is not within its interval of {others} under {', '.join(apart)}; it is "
        "not the same as they are, or the attack is not sound (expected by chance in 1 of 20 audits): do not trust "
        "the gaps"
    )


def _all(count: int) -> str:
    return f"all {count} attacks" if count > 1 else "the attack"
