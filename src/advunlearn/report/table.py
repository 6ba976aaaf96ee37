"""The three models side by side, as rows of words: what the terminal and the page show."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from advunlearn.evaluation.comparison import MODELS

LOW_FPR = ("0.01", "0.001")


@dataclass(frozen=True)
class Row:
    """One number of the three models, in words.

    Attributes:
        section, name: what it is.
        values: of the original, retrained and unlearned model, each with its 95 % interval if it has one.
        gap: unlearned less retrained.
        wanted: its direction.
        on: what it was computed on.
    """

    section: str
    name: str
    values: tuple[str, ...]
    gap: str
    wanted: str
    on: str


HEADINGS = ("", "", *MODELS, "gap", "wanted", "computed on")


def rows(metrics: dict[str, Any]) -> list[Row]:
    """Return everything that `metrics.json` says of the models, one row a number."""
    return [*_accuracy(metrics), *_attacks(metrics), *_losses(metrics)]


def comparison_table(metrics: dict[str, Any]) -> str:
    """Return the table for a terminal: the three models side by side, then times and notes."""
    cells = [HEADINGS]
    previous = ""
    for row in rows(metrics):
        section = row.section if row.section != previous else ""
        cells.append((section, row.name, *row.values, row.gap, row.wanted, row.on))
        previous = row.section
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    numeric = range(2, 6)

    def line(words: tuple[str, ...]) -> str:
        aligned = (w.rjust(n) if i in numeric else w.ljust(n) for i, (w, n) in enumerate(zip(words, widths, strict=True)))
        return "  ".join(aligned).rstrip()

    rule = "-" * len(line(cells[0]))
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:]), rule, *notes(metrics)])


def notes(metrics: dict[str, Any]) -> list[str]:
    """Return what has to be said beside the numbers, one line each."""
    seconds = metrics["seconds"]
    spent = ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    lines = [verdict(metrics), f"time: {spent}", _speed(metrics)]
    attacks = metrics["models"]["unlearned"]["attacks"]
    lines += [f"{name}: {found['excluded']} test examples have no score" for name, found in attacks.items() if found["excluded"]]
    said = dict.fromkeys(f"note: {found['note']}" for found in attacks.values() if found["note"])
    return [*lines, *said]


def verdict(metrics: dict[str, Any]) -> str:
    """Return one sentence on the attack that does best on the original model: how near unlearning came to retraining."""
    models = metrics["models"]
    strongest = max(models["original"]["attacks"], key=lambda name: models["original"]["attacks"][name]["auc"])
    original, retrained, unlearned = (models[name]["attacks"][strongest]["auc"] for name in MODELS)
    before, after = abs(original - retrained), abs(unlearned - retrained)
    sentence = (
        f"{strongest}, the strongest attack, tells forget from test examples with an AUC of {original:.3f} on the original, "
        f"{retrained:.3f} on the retrained and {unlearned:.3f} on the unlearned model"
    )
    if before == 0:
        return f"{sentence}."
    closed = (before - after) / before
    return f"{sentence}: {closed:.0%} of the gap is closed." if closed >= 0 else f"{sentence}: the gap has grown."


def _speed(metrics: dict[str, Any]) -> str:
    ratio = metrics["unlearning_over_retraining"]
    words = "faster" if ratio < 1 else "SLOWER: retraining would have been the better unlearner"
    return f"unlearning took {ratio:.2f} of the time of retraining ({words})"


def metrics_csv(metrics: dict[str, Any]) -> str:
    """Return `metrics.csv`: one line for each number of each model, with the attack that it belongs to."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("model", "attack", "metric", "value"))
    for model, measured in metrics["models"].items():
        attacks = measured["attacks"].items()
        flat = [("", name, value) for name, value in measured.items() if name != "attacks"]
        flat += [(attack, name, value) for attack, found in attacks for name, value in found.items()]
        for attack, name, value in flat:
            parts = {f"{name}_{part}": each for part, each in value.items()} if isinstance(value, dict) else {name: value}
            writer.writerows((model, attack, *pair) for pair in parts.items())
    return file.getvalue()


def _accuracy(metrics: dict[str, Any]) -> Iterator[Row]:
    wanted = {"retain": "match retrained", "forget": "match retrained", "test": "higher"}
    for part, direction in wanted.items():
        examples = metrics["models"]["original"]["examples"][part]
        yield _row(
            metrics,
            "accuracy",
            part,
            lambda model, part=part: (model["accuracy"][part], model["accuracy_low"][part], model["accuracy_high"][part]),
            direction,
            f"{examples} {part}",
        )


def _attacks(metrics: dict[str, Any]) -> Iterator[Row]:
    attacks = metrics["models"]["original"]["attacks"]
    primary = [name for name in attacks if "/" not in name]

    def of(section: str, names: list[str], *keys: str) -> Iterator[Row]:
        for name in names:
            found = attacks[name]
            shadows = f", {found['shadows']} shadow models" if found["shadows"] else ""
            on = f"{found['members']} forget, {found['nonmembers']} test{shadows}"
            yield _row(metrics, section, name, lambda m, name=name: tuple(m["attacks"][name][k] for k in keys), "match retrained", on)

    yield from of("attack AUC", list(attacks), "auc", "auc_low", "auc_high")
    yield from of("balanced accuracy", primary, "balanced_accuracy")
    for fpr in LOW_FPR:
        key = f"tpr_at_fpr_{fpr}"
        yield from of(f"TPR at {float(fpr):.1%} FPR".replace(".0%", "%"), primary, key, f"{key}_low", f"{key}_high")


def _losses(metrics: dict[str, Any]) -> Iterator[Row]:
    for name, key in (("KS", "loss_ks"), ("Wasserstein", "loss_wasserstein")):
        yield _row(metrics, "loss distance", name, lambda m, key=key: (m[key],), "match retrained", "forget against test")


def _row(
    metrics: dict[str, Any],
    section: str,
    name: str,
    values: Callable[[Any], tuple[float, ...]],
    wanted: str,
    on: str,
) -> Row:
    found = [values(metrics["models"][model]) for model in MODELS]
    shown = tuple(f"{v[0]:.3f}" + (f" [{_short(v[1])}, {_short(v[2])}]" if len(v) == 3 else "") for v in found)
    return Row(section, name, shown, f"{found[2][0] - found[1][0]:+.3f}", wanted, on)


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else "1"
