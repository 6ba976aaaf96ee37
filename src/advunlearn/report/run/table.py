"""The three models side by side, as rows of text: what the terminal and the page show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from advunlearn.evaluation.attack_metrics import AttackMetrics, Questions, is_tenth
from advunlearn.evaluation.comparison import primary, strongest_attack
from advunlearn.evaluation.metrics_file import Memorization, Metrics, ModelMetrics
from advunlearn.evaluation.names import MODELS, FollowedName, PartName
from advunlearn.report.run.attack_numbers import algorithm_numbers, attacked, precisions, with_ends
from advunlearn.report.run.audit_numbers import audit_notes, audit_records, control_numbers
from advunlearn.report.run.further import MATCH, further_numbers, reasons
from advunlearn.runtime.resources import size

DOUBT = "not 0.5 (expected by chance in 1 of 20 audits): treat the other numbers with caution"

Find = Callable[[AttackMetrics], tuple[float, ...]]  # a number, or a number and the ends of its interval


@dataclass(frozen=True)
class MetricRow:
    """One number of the three models, as text.

    Attributes:
        section, name: what it is.
        values: of the original, retrained and unlearned model, each with its 95 % interval if it has one.
        numbers: the same values, not rounded: a number, or a number and the ends of its interval.
        gap: unlearned less retrained.
        wanted: its direction.
        on: what it was computed on.
    """

    section: str
    name: str
    values: tuple[str, ...]
    numbers: tuple[tuple[float, ...], ...]
    gap: str
    wanted: str
    on: str


def rows(metrics: Metrics) -> list[MetricRow]:
    """Return everything that `metrics.json` holds of the models, one row per number."""
    models = [metrics["models"][name] for name in MODELS]
    own = [*_mislabelled(metrics), *_rounds(metrics)]
    groups = (control_numbers, algorithm_numbers, further_numbers)
    control, algorithm, further = ([_row(*each) for each in group(metrics)] for group in groups)
    return [*_accuracy(models), *own, *_attacks(models), *_losses(models), *control, *algorithm, *further]


def records(metrics: Metrics) -> list[dict[str, Any]]:
    """Return the same rows as plain data, not rounded: a column for each model, and for the ends of its interval."""
    found = []
    for row in rows(metrics):
        record: dict[str, Any] = {"section": row.section, "name": row.name}
        for model, numbers in zip(MODELS, row.numbers, strict=True):
            parts = (model, f"{model}_low", f"{model}_high")
            record |= dict(zip(parts, (*numbers, None, None), strict=False))
        gap = record["unlearned"] - record["retrained"]
        found.append({**record, "gap": gap, "wanted": row.wanted, "computed on": row.on})
    return found


def model_rows(found: ModelMetrics) -> list[MetricRow]:
    """Return the numbers of one model, one row per number."""
    return [*_accuracy([found]), *_attacks([found]), *_losses([found])]


def attack_notes(found: ModelMetrics) -> list[str]:
    """Return which numbers of the attacks so few examples cannot support."""
    attacks = found["attacks"]
    return [f"{name}: {attacks[name]['note']}" for name in primary(attacks) if attacks[name]["note"]]


def notes(metrics: Metrics) -> list[str]:
    """Return what a reader of the numbers needs to know, one line each."""
    seconds = metrics["seconds"]
    spent = ", ".join(f"{stage} {value:.3g} s" for stage, value in seconds.items())
    time = f"time when it was computed: {spent}"
    lines = [verdict(metrics), *_original(metrics), time, *_speed(metrics), *_unlearning(metrics), *reasons(metrics)]
    if (memorized := metrics.get("memorization")) is not None:
        lines.append(memorization_in_words(memorized))
    if references := metrics["references_over_retraining"]:
        lines.append(
            f"the reference models took {references:.2f} times as long as retraining, once: "
            "later requests to forget that need the same models use them again"
        )
    attacks = metrics["models"]["unlearned"]["attacks"]
    for name, found in attacks.items():
        if found["excluded"]:
            which = "test examples outside the shadow models' pool have" if found["shadows"] else "examples have"
            lines.append(f"{name}: {found['excluded']} {which} no score")
    lines += audit_notes(metrics)
    lines += [_self_test(attack, questions) for attack, questions in metrics.get("algorithm", {}).items()]
    lines += attack_notes(metrics["models"]["unlearned"])
    return [*lines, "epsilon compares models and certifies nothing: the examples of one model are not independent runs"]


def memorization_in_words(found: Memorization) -> str:
    """Return one sentence on the mean memorization of the forget set."""
    about = f"{found['examples']} examples, {found['models']} models"
    bias = "; these models chose the forget set, so the mean is biased" if found["chosen_by_it"] else ""
    return (
        f"mean memorization of the forget set, P[correct | IN] - P[correct | OUT]: {found['mean']:.3f} ({about}{bias})"
    )


def verdict(metrics: Metrics) -> str:
    """Return one sentence: how near unlearning comes to retraining, by the strongest attack."""
    models, strongest = metrics["models"], strongest_attack([metrics])
    attacks = [models[name]["attacks"][strongest] for name in MODELS]
    original, retrained, unlearned = (attack["auc"] for attack in attacks)
    before, after = original - retrained, unlearned - retrained
    side = " on the other side" if before * after < 0 else ""
    sentence = (
        f"{strongest}, the strongest attack, tells forget from test examples with an AUC of "
        f"{original:.3f} on the original, {retrained:.3f} on the retrained and {unlearned:.3f} on the unlearned model: "
        f"unlearning changed the distance to retraining from {abs(before):.3f} to {abs(after):.3f}{side}"
    )
    noise = attacks[0]["auc_low"] <= attacks[1]["auc_high"] and attacks[1]["auc_low"] <= attacks[0]["auc_high"]
    return f"{sentence}, within the noise of so few examples." if noise else f"{sentence}."


def _original(metrics: Metrics) -> Iterator[str]:
    """Yield what is known of an original that was given."""
    if (given := metrics.get("original")) is None:
        return
    yield f"the original was given (SHA-256 of its weights: {given['sha256'][:12]}), and not trained by this run"
    if before := given["forgotten_before"]:
        yield f"the forget set consists of {given['new']} new examples and {before} of earlier requests"


def _speed(metrics: Metrics) -> Iterator[str]:
    ratio = metrics["unlearning_over_retraining"]
    if math.isnan(ratio):
        return
    words = "" if ratio < 1 else ": retraining would have been the better unlearner"
    yield f"unlearning took {ratio:.2f} times as long as retraining{words}"


def _unlearning(metrics: Metrics) -> Iterator[str]:
    """Yield what the unlearner has read and needed, and whether the model has collapsed."""
    if "unlearning" in metrics:
        needed = metrics["unlearning"]
        words = [f"reads {', '.join(needed['reads']) or 'no data'}", f"{metrics['seconds']['unlearn']:.3g} s"]
        if needed["peak_memory"] is not None:
            name = "peak memory" if needed["device"] == "cuda" else "growth of the process's peak memory"
            words.append(f"{name} {size(needed['peak_memory'])}")
        yield f"unlearning: {'; '.join(words)}"
    if metrics["trace"].get("collapsed"):
        yield "unlearning collapsed: the unlearned model is no better on retain examples than one class for all"


def _self_test(attack: str, questions: Questions) -> str:
    """Return whether the audit of the algorithm passes its own test: retrained models look like retrained ones."""
    found = {question: models["retrained"] for question, models in questions.items() if not is_tenth(question)}
    aucs = [f"{name} {each['auc']:.3f} [{each['auc_low']:.3f}, {each['auc_high']:.3f}]" for name, each in found.items()]
    passed = all(each["auc_low"] <= 0.5 <= each["auc_high"] for each in found.values())
    words = "0.5, as it must be" if passed else DOUBT
    return f"{attack}, tested on the algorithm that retrains: {', '.join(aucs)}: {words}"


def metrics_csv(metrics: Metrics) -> str:
    """Return `metrics.csv`: one line for each number of each model, with the attack that it belongs to."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("model", "attack", "metric", "value"))
    for model, measured in metrics["models"].items():
        attacks = measured["attacks"].items()
        flat = [("", name, value) for name, value in measured.items() if name != "attacks"]
        flat += [(attack, name, value) for attack, found in attacks for name, value in found.items()]
        for attack, name, value in flat:
            parts = (
                {f"{name}_{part}": each for part, each in value.items()} if isinstance(value, dict) else {name: value}
            )
            writer.writerows((model, attack, *pair) for pair in parts.items())
    for model, shares in metrics.get("mislabelled", {}).items():
        writer.writerows((model, "", name, value) for name, value in shares.items())
    for attack, questions in metrics.get("algorithm", {}).items():
        for question, models in questions.items():
            for model, found in models.items():
                writer.writerows((model, attack, f"{question}_{name}", value) for name, value in found.items())
    writer.writerows(audit_records(metrics))
    for section, name, values, *_ in further_numbers(metrics):
        metric = f"{section} {name}".replace(" ", "_")
        writer.writerows((model, "", metric, *value) for model, value in zip(MODELS, values, strict=True))
    return file.getvalue()


def _accuracy(models: Sequence[ModelMetrics]) -> Iterator[MetricRow]:
    wanted: dict[PartName, str] = {"retain": "higher", "forget": MATCH, "test": "higher"}
    for part, direction in wanted.items():
        values = [(m["accuracy"][part], m["accuracy_low"][part], m["accuracy_high"][part]) for m in models]
        yield _row("accuracy", part, values, direction, f"{models[0]['examples'][part]} {part}")


def _mislabelled(metrics: Metrics) -> Iterator[MetricRow]:
    if (found := metrics.get("mislabelled")) is None:
        return
    on = f"{metrics['models']['original']['examples']['forget']} forget"
    yield _row("classified as", "wrong label", [(found[name]["wrong_label"],) for name in MODELS], MATCH, on)
    yield _row("classified as", "true label", [(found[name]["true_label"],) for name in MODELS], MATCH, on)


def _rounds(metrics: Metrics) -> Iterator[MetricRow]:
    """Yield what the three models answer on the examples of each request; the unlearned one is that after the last."""
    if (found := metrics.get("rounds")) is None:
        return
    models = (found["models"][0], found["retrained"], found["models"][-1])
    sections: dict[FollowedName, str] = {"accuracy": "accuracy by request", "auc": "loss AUC by request"}
    for name, section in sections.items():
        for request, count in enumerate(found["examples"]):
            values = [(model[name][request],) for model in models]
            yield _row(section, f"request {request + 1}", values, MATCH, f"{count} forget")


def _attacks(models: Sequence[ModelMetrics]) -> Iterator[MetricRow]:
    attacks = models[0]["attacks"]
    scores = primary(attacks)

    def of(section: str, names: Iterable[str], find: Find) -> Iterator[MetricRow]:
        for name in names:
            values = [find(m["attacks"][name]) for m in models]
            yield _row(section, name, values, MATCH, attacked(attacks[name]))

    yield from of("attack AUC", attacks, _auc)
    yield from of("balanced accuracy", scores, lambda found: (found["balanced_accuracy"],))
    yield from of("TPR at 1% FPR", scores, _at_percent)
    yield from of("TPR at 0.1% FPR", scores, _at_tenth)
    yield from (_row(*each) for each in precisions(models))
    yield from of("epsilon at least", scores, lambda found: (found["epsilon_low"],))
    for name in scores:
        for figure in attacks[name]["figures"]:
            values = [(m["attacks"][name]["figures"][figure],) for m in models]
            yield _row(name, figure.replace("_", " "), values, MATCH, attacked(attacks[name]))


def _auc(found: AttackMetrics) -> tuple[float, ...]:
    return found["auc"], found["auc_low"], found["auc_high"]


def _at_percent(found: AttackMetrics) -> tuple[float, ...]:
    return with_ends(found, "tpr_at_fpr_0.01")


def _at_tenth(found: AttackMetrics) -> tuple[float, ...]:
    return with_ends(found, "tpr_at_fpr_0.001")


def _losses(models: Sequence[ModelMetrics]) -> Iterator[MetricRow]:
    for name, values in (
        ("KS", [(m["loss_ks"],) for m in models]),
        ("Wasserstein", [(m["loss_wasserstein"],) for m in models]),
    ):
        yield _row("loss distance", name, values, MATCH, "forget against test")


def _row(section: str, name: str, values: Sequence[tuple[float, ...]], wanted: str, on: str) -> MetricRow:
    """Return the row of the models' values, each a number or a number and its interval; a gap needs all three."""
    shown = tuple(_shown(v) for v in values)
    gap = values[2][0] - values[1][0] if len(values) == len(MODELS) else math.nan
    return MetricRow(section, name, shown, tuple(values), "" if math.isnan(gap) else f"{gap:+.3f}", wanted, on)


def _shown(value: tuple[float, ...]) -> str:
    """Return a number with its interval, if it has one; `none` for NaN, such as a precision without a positive."""
    if math.isnan(value[0]):
        return "none"
    return f"{value[0]:.3f}" + (f" [{_short(value[1])}, {_short(value[2])}]" if len(value) == 3 else "")


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else "1"
