"""Where the variation of a gap comes from: training, unlearning, or neither; and what to repeat more often."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev, variance  # exact: equal values have a variance of exactly zero

import numpy as np

from advunlearn.report.summary.folders import Run, level_of
from advunlearn.report.summary.runs import Group, Summary

CUT = "*"
TINY = 1e-12  # less than any variance of an AUC: rounding


@dataclass(frozen=True)
class Components:
    """The variance of one number over I trainings, each followed by J unlearnings.

    Attributes:
        trainings: I.
        unlearnings: J, the mean over the trainings.
        training, unlearning: variances, those that were estimated below zero set to zero.
        residual: the variance between audits of the same models, without what an audit does to all models alike, or
            between other repetitions of the same seeds; None without any. `unlearning` does not include it.
        error: the standard error of the mean over the trainings.
        cut: the names of the variances that were set to zero.
    """

    trainings: int
    unlearnings: float
    training: float
    unlearning: float
    residual: float | None
    error: float
    cut: tuple[str, ...]

    def best_unlearnings(self, cost: float) -> float:
        """Return the J of the smallest standard error for a given time: sqrt(cost * unlearning / training), at least 1.

        Args:
            cost: the time of a training over that of an unlearning.
        """
        if self.training == 0:
            return math.inf if self.unlearning else 1.0
        return max(1.0, math.sqrt(cost * self.unlearning / self.training))

    def advice(self, cost: float) -> str:
        """Return what to repeat more often: trainings, or unlearnings of each."""
        if self.training == self.unlearning == 0:
            return "neither"
        best = self.best_unlearnings(cost)
        if best < self.unlearnings + 1:
            return "trainings"
        return f"unlearnings, {best:.0f} each" if math.isfinite(best) else "unlearnings"


def components(
    values: Sequence[float],
    trainings: Sequence[Hashable],
    unlearnings: Sequence[Hashable],
    audits: Sequence[Hashable],
) -> Components | None:
    """Return the components of variance of values (n,); None unless two trainings, one of them with two unlearnings.

    The analysis of variance of a random-effects model with unlearnings nested in trainings, by the method of moments,
    for any number of unlearnings per training. Repetitions of one unlearning are averaged first. In an I x J grid
    the variance of the mean is training / I + unlearning / (I J).

    Args:
        values: one for each run.
        trainings, unlearnings, audits: which of each a run had (n,).

    References:
        S. R. Searle, G. Casella and C. E. McCulloch, "Variance Components", Wiley 1992, chapter 3.
        [lanyon2025] J. Lanyon, A. Finke, P. Andreou and G. Cosma, "On the importance of multiple training seeds for
        evaluating machine unlearning", 2025, https://arxiv.org/abs/2510.26714.
    """
    repeated: dict[tuple[Hashable, Hashable], list[float]] = {}
    for value, *cell in zip(values, trainings, unlearnings, strict=True):
        repeated.setdefault((cell[0], cell[1]), []).append(value)
    nested: dict[Hashable, list[float]] = {}
    for (training, _), found in repeated.items():
        nested.setdefault(training, []).append(mean(found))
    groups, count = list(nested.values()), len(repeated)
    if not 1 < len(groups) < count:
        return None
    within = math.fsum((len(each) - 1) * variance(each) for each in groups if len(each) > 1) / (count - len(groups))
    whole, free = mean(value for each in groups for value in each), len(groups) - 1
    between = math.fsum(len(each) * (mean(each) - whole) ** 2 for each in groups) / free
    size = (count - sum(len(each) ** 2 for each in groups) / count) / free  # J, if all groups have as many
    residual = _residual(values, list(zip(trainings, unlearnings, strict=True)), audits)
    share = mean(1 / len(each) for each in repeated.values())
    raw = {"training": (between - within) / size, "unlearning": within - (residual or 0.0) * share}
    kept = {name: max(0.0, each) for name, each in raw.items()}
    error = stdev([mean(each) for each in groups]) / math.sqrt(len(groups))
    cut = tuple(name for name, each in raw.items() if each < -TINY)
    return Components(len(groups), count / len(groups), **kept, residual=residual, error=error, cut=cut)


def _residual(values: Sequence[float], cells: Sequence[Hashable], audits: Sequence[Hashable]) -> float | None:
    """Return the variance that is left by an effect of each cell and one of each audit; None if nothing is free."""
    if len(set(cells)) == len(values):
        return None
    columns = [[key == each for key in keys] for keys in (cells, audits) for each in dict.fromkeys(keys)]
    design, known = np.array(columns, dtype=float).T, np.array(values, dtype=float)
    fitted, _, rank, _ = np.linalg.lstsq(design, known, rcond=None)
    free = len(known) - int(rank)
    return float(np.sum((known - design @ fitted) ** 2)) / free if free else None


def of_group(group: Group, attack: str) -> Components | None:
    """Return the components of the unlearned model's gaps; see `components`. A training includes its splits."""
    found = group.gaps(attack)
    seeds = [run.seeds for run, _ in found]
    return components(
        [value for _, value in found],
        [(each["seed"], each["training"]) for each in seeds],
        [each["unlearning"] for each in seeds],
        [each["audit"] for each in seeds],
    )


def cost_of(runs: Iterable[Run]) -> float:
    """Return the time of a training over that of an unlearning: of the original, the retrained and reference models."""
    seconds = [run.metrics["seconds"] for run in runs if run.metrics]
    trained = [sum(each.get(stage, 0.0) for stage in ("pretrain", "retrain", "references")) for each in seconds]
    unlearned = [each.get("unlearn", 0.0) for each in seconds]
    return math.fsum(trained) / max(math.fsum(unlearned), 1e-9)


def table(summary: Summary) -> list[list[str]]:
    """Return the components of each group's gaps as text, the headings first; empty if no group has them."""
    found = [
        (group, attack, known)
        for group in summary.groups
        for attack in summary.attacks
        if (known := of_group(group, attack)) is not None
    ]
    residual = any(known.residual is not None for _, _, known in found)
    names = ["training", "unlearning", *(["residual"] if residual else [])]
    rows = []
    for group, attack, known in found:
        grid = f"{known.trainings} x {known.unlearnings:.3g}"
        deviations = [_deviation(known, name) for name in names]
        error, advice = f"{known.error:.4f}", known.advice(cost_of(group.runs))
        rows.append([group.name, attack, grid, *deviations, error, advice])
    return [["gap of", "attack", "grid", *names, "error", "repeat more"], *rows] if rows else []


def numbers(summary: Summary, labels: tuple[str, ...]) -> Iterator[tuple[str, str, float, int]]:
    """Yield attack, name, value and number of values of each component of the group with these labels."""
    for group in summary.groups:
        for attack in summary.attacks if group.labels == labels else ():
            if (known := of_group(group, attack)) is None:
                continue
            cells = round(known.trainings * known.unlearnings)
            yield attack, "gap_sd_training", math.sqrt(known.training), known.trainings
            yield attack, "gap_sd_unlearning", math.sqrt(known.unlearning), cells
            if known.residual is not None:
                yield attack, "gap_sd_residual", math.sqrt(known.residual), len(group.gaps(attack))
            yield attack, "gap_standard_error", known.error, known.trainings


def _deviation(known: Components, name: str) -> str:
    value: float | None = getattr(known, name)
    return "" if value is None else f"{math.sqrt(value):.4f}{CUT if name in known.cut else ''}"


def legend(rows: Sequence[Sequence[str]]) -> str:
    """Return what the table of components shows, in one line; empty without a table."""
    if not rows:
        return ""
    parts = ["standard deviations of a gap between trainings, and between unlearnings of one training"]
    if "residual" in rows[0]:
        parts.append("residual: between audits or other repetitions of the same models")
    parts.append("error: standard error of the mean, sqrt(training^2 / I + unlearning^2 / (I J)) for a grid of I x J")
    parts.append("repeat more: what lowers it most for the time that it takes")
    if any(CUT in cell for row in rows[1:] for cell in row):
        parts.append(f"{CUT}: estimated below zero, set to zero")
    return "; ".join(parts)


def remarks(summary: Summary) -> list[str]:
    """Return one line if the models of all runs come from one training, for which alone intervals then hold."""
    levels = {level_of(group.runs) for group in summary.groups if len(group.runs) > 1}
    if not levels or not levels <= {"unlearning", "audit"}:
        return []
    audit = "the audit was repeated (seeds.audit)"
    what = "unlearning was repeated (seeds.unlearning)" if "unlearning" in levels else audit
    return [
        f"Only {what}, on one training: the variation between trainings is not measured, and the intervals hold for "
        "these trained models alone, even where they are narrow (try seeds.training=1,2,3)."
    ]
