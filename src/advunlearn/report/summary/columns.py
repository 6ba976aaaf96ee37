"""The columns of a summary: the numbers of a model, and their means and 95 % intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from advunlearn.evaluation.comparison import average_gap, tug_of_war
from advunlearn.evaluation.metrics_file import DistributionMetrics, Gap, Metrics, ModelName, PartName, WeightMetrics
from advunlearn.report.summary.folders import Run, level_of

SHOWN_PARTS: tuple[PartName, ...] = ("test", "forget", "retain")
_RETRAINED: Final = "retrained"
_UNLEARNED: Final = "unlearned"


@dataclass(frozen=True)
class Estimate:
    """One number, with a value for each of several runs: its mean and interval.

    Attributes:
        values: of the runs.
        units: what each value belongs to; values of one unit, such as the unlearnings of one trained model, are not
            independent, and count as their mean. Empty: each value counts.
    """

    values: tuple[float, ...]
    units: tuple[str, ...] = ()

    @cached_property
    def means(self) -> tuple[float, ...]:
        """Return the mean of each unit."""
        found: dict[str | int, list[float]] = {}
        units: Sequence[str | int] = self.units or range(len(self.values))
        for unit, value in zip(units, self.values, strict=True):
            found.setdefault(unit, []).append(value)
        return tuple(float(np.mean(each)) for each in found.values())

    @cached_property
    def mean(self) -> float:
        """Return the mean over the units."""
        return float(np.mean(self.means))

    @cached_property
    def half(self) -> float | None:
        """Return half of Student's 95 % interval of the mean; None for a single unit."""
        from scipy.stats import t  # it takes a second, and a single run has no interval

        n = len(self.means)
        return float(t.ppf(0.975, n - 1) * np.std(self.means, ddof=1) / np.sqrt(n)) if n > 1 else None


@dataclass(frozen=True)
class Column:
    """One number of a model: its names in a table and in a file, and how it is found in metrics.

    Attributes:
        terminal: whether the table for a terminal has it; that for a document or a paper has all columns.
    """

    section: str
    name: str
    metric: str
    attack: str
    find: Callable[[Metrics, ModelName], float | None]
    digits: int = 3
    terminal: bool = True

    def of(self, runs: Iterable[Run], model: ModelName) -> Estimate | None:
        """Return this number of one of the runs' models; None if none of them has it."""
        found = [(run, self.find(run.metrics, model)) for run in runs if run.metrics is not None]
        known = [(run, value) for run, value in found if value is not None]
        return estimate(known) if known else None


def estimate(found: Sequence[tuple[Run, float]]) -> Estimate:
    """Return the estimate from a value of each of several runs, of which those of one seed or training are a unit."""
    level = level_of(run for run, _ in found)
    units = tuple(run.seeds[level] for run, _ in found) if level is not None else ()
    return Estimate(tuple(value for _, value in found), units)


def accuracy(part: PartName) -> Column:
    """Return the column of the accuracy on a part of the data."""
    return Column("", part, f"accuracy_{part}", "", lambda metrics, model: metrics["models"][model]["accuracy"][part])


def gap(attack: str) -> Column:
    """Return the column of an attack's AUC less that on the retrained model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else metrics["gap"][model]["attacks"].get(attack)

    return Column("gap", attack, "gap", attack, find)


def time_over_retraining(stage: Literal["unlearning", "references"]) -> Column:
    """Return the column of the time that unlearning or its reference models took over that of retraining."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        if model != _UNLEARNED:
            return None
        if stage == "unlearning":
            return metrics["unlearning_over_retraining"]
        return metrics["references_over_retraining"] or None  # no reference models, no column of them

    name = "" if stage == "unlearning" else stage
    return Column("time / retraining", name, f"{stage}_over_retraining", "", find, digits=2)


def run_columns(attacks: Iterable[str]) -> list[Column]:
    """Return the columns of runs that differ in any option."""
    attacks = list(attacks)
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [*map(accuracy, SHOWN_PARTS), *map(_auc, attacks), *map(gap, attacks), *times, *further_columns()]


def method_columns(attacks: Iterable[str]) -> list[Column]:
    """Return the columns of a comparison of methods."""
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [
        *map(accuracy, SHOWN_PARTS),
        *map(gap, attacks),
        _of_gap("average gap", average_gap),
        _of_gap("ToW", tug_of_war),
        _of_gap("ToW-MIA", lambda found: tug_of_war(found, attacks=True)),
        *times,
        *further_columns(),
    ]


def algorithm_columns(runs: Iterable[Run]) -> list[Column]:
    """Return a column for each question, such as `efficacy`, of the attacks on the unlearner that these runs have."""
    found = [run.metrics.get("algorithm", {}) for run in runs if run.metrics is not None]
    names = dict.fromkeys((attack, question) for each in found for attack, asked in each.items() for question in asked)
    return [_of_algorithm(attack, question) for attack, question in names]


def _of_algorithm(attack: str, question: str) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics.get("algorithm", {}).get(attack, {}).get(question, {}).get(model)
        return None if found is None else found["auc"]

    return Column(f"{attack} AUC", question, f"{question}_auc", attack, find)


def further_columns() -> list[Column]:
    """Return the columns for which a terminal has no room; those that no run has are left out."""
    return [
        _of_distributions("KLoM forget", lambda found: found["klom"]["forget"]),
        _of_distributions("forgetting quality", lambda found: found["forgetting_quality"]),
        _of_weights("from original", lambda found: found["from_original"]),
        _of_weights("barrier test", lambda found: found["barrier"]["test"]),
        Column("memory", "MB", "peak_memory_mb", "", _peak_memory, digits=0, terminal=False),
    ]


def _auc(attack: str) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found["auc"]

    return Column("AUC", attack, "auc", attack, find)


def _of_distributions(name: str, measure: Callable[[DistributionMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["distributions"]["models"] if "distributions" in metrics else {}
        return measure(found[model]) if model in found else None

    return Column("many models", name, name.lower().replace(" ", "_"), "", find, terminal=False)


def _of_weights(name: str, measure: Callable[[WeightMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["weights"]["models"] if "weights" in metrics else {}
        return measure(found[model]) if model in found else None

    return Column("weights", name, f"weights_{name}".replace(" ", "_"), "", find, terminal=False)


def _peak_memory(metrics: Metrics, model: ModelName) -> float | None:
    """Return the peak memory of unlearning on CUDA; that of the CPU depends on what the process did before."""
    found = metrics.get("unlearning")
    if model != _UNLEARNED or found is None or found["device"] != "cuda" or found["peak_memory"] is None:
        return None
    return found["peak_memory"] / 1e6


def _of_gap(name: str, measure: Callable[[Gap], float]) -> Column:
    """Return the column of one number that is made of all gaps of a model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else measure(metrics["gap"][model])

    return Column("overall", name, name, "", find)
