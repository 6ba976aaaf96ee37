"""The columns of a summary: the numbers of a model, and their means and 95 % intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from advunlearn.evaluation.comparison import average_gap, tug_of_war
from advunlearn.evaluation.metrics_file import Gap, Metrics, ModelName, PartName
from advunlearn.report.summary.folders import Run

SHOWN_PARTS: tuple[PartName, ...] = ("test", "forget", "retain")
_RETRAINED: Final = "retrained"
_UNLEARNED: Final = "unlearned"


@dataclass(frozen=True)
class Estimate:
    """One number, with a value for each of several runs: its mean and interval."""

    values: tuple[float, ...]

    @cached_property
    def mean(self) -> float:
        """Return the mean over the runs."""
        return float(np.mean(self.values))

    @cached_property
    def half(self) -> float | None:
        """Return half of Student's 95 % interval of the mean; None for a single run."""
        from scipy.stats import t  # it takes a second, and a single run has no interval

        n = len(self.values)
        return float(t.ppf(0.975, n - 1) * np.std(self.values, ddof=1) / np.sqrt(n)) if n > 1 else None


@dataclass(frozen=True)
class Column:
    """One number of a model: its names in a table and in a file, and how it is found in metrics."""

    section: str
    name: str
    metric: str
    attack: str
    find: Callable[[Metrics, ModelName], float | None]
    digits: int = 3

    def of(self, runs: Iterable[Run], model: ModelName) -> Estimate | None:
        """Return this number of one of the runs' models; None if none of them has it."""
        found = [self.find(run.metrics, model) for run in runs if run.metrics is not None]
        values = tuple(value for value in found if value is not None)
        return Estimate(values) if values else None


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
    return [*map(accuracy, SHOWN_PARTS), *map(_auc, attacks), *map(gap, attacks), *times]


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
    ]


def _auc(attack: str) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found["auc"]

    return Column("AUC", attack, "auc", attack, find)


def _of_gap(name: str, measure: Callable[[Gap], float]) -> Column:
    """Return the column of one number that is made of all gaps of a model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else measure(metrics["gap"][model])

    return Column("overall", name, name, "", find)
