"""The columns of a summary: the numbers of a model, and their means and 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from advunlearn.evaluation.comparison import average_gap, gaps_of, tug_of_war
from advunlearn.evaluation.metrics_file import Gap, Metrics
from advunlearn.evaluation.names import ModelName, PartName
from advunlearn.report.summary.folders import Run, level_of

SHOWN_PARTS: tuple[PartName, ...] = ("test", "forget", "retain")
PRIORS = ("0.01", "0.1", "0.5")  # shares of members, in keys of `OperatingPoint`
RATE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)  # of two rates
POSITIVE = (0.0, math.inf)
Wanted = Literal["match", "zero", "higher", "lower"]
_RETRAINED: Final = "retrained"
_UNLEARNED: Final = "unlearned"


@dataclass(frozen=True)
class Estimate:
    """One number, with a value for each of several runs: its mean and interval.

    Attributes:
        values: of the runs.
        units: what each value belongs to; values of one unit, such as the unlearnings of one trained model, are not
            independent, and count as their mean. Empty: each value counts.
        bounds: the least and the largest value that the number can have, such as 0 and 1 for a rate.
    """

    values: tuple[float, ...]
    units: tuple[str, ...] = ()
    bounds: tuple[float, float] = (-math.inf, math.inf)

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

    @property
    def ends(self) -> tuple[float, float] | None:
        """Return the ends of the interval, without what the number cannot be; None for a single unit.

        The part of Student's interval within the bounds covers the mean as often as the whole: the mean is within them.
        """
        if self.half is None:
            return None
        return max(self.mean - self.half, self.bounds[0]), min(self.mean + self.half, self.bounds[1])

    @property
    def is_cut(self) -> bool:
        """Return whether the bounds cut Student's interval, which then is not `mean ± half`."""
        return self.half is not None and self.ends != (self.mean - self.half, self.mean + self.half)


@dataclass(frozen=True)
class Column:
    """One number of a model: its names in a table and in a file, and how it is found in metrics.

    Attributes:
        bounds: of the number; see `Estimate`.
        wanted: what is better: to match the retrained model, to be zero, to be higher, to be lower.
        terminal: whether the table for a terminal has it; that for a document or a paper has all columns.
    """

    section: str
    name: str
    metric: str
    attack: str
    find: Callable[[Metrics, ModelName], float | None]
    bounds: tuple[float, float] = RATE
    wanted: Wanted = "match"
    digits: int = 3
    terminal: bool = True

    def of(self, runs: Iterable[Run], model: ModelName) -> Estimate | None:
        """Return this number of one of the runs' models; None if none of them has it."""
        found = [(run, self.find(run.metrics, model)) for run in runs if run.metrics is not None]
        known = [(run, value) for run, value in found if value is not None]
        return estimate(known, self.bounds) if known else None

    def loss(self, runs: Iterable[Run]) -> float:
        """Return how far the unlearned models of these runs are from what is wanted, on average: less is better."""
        known = [run.metrics for run in runs if run.metrics is not None]
        pairs = [(self.find(each, _UNLEARNED), self.find(each, _RETRAINED)) for each in known]
        found = [_loss(value, target, self.wanted) for value, target in pairs if value is not None]
        return float(np.mean(found)) if found else math.inf


def _loss(value: float, retrained: float | None, wanted: Wanted) -> float:
    if wanted in ("higher", "lower"):
        return value if wanted == "lower" else -value
    target = 0.0 if wanted == "zero" else retrained
    return math.inf if target is None else abs(value - target)


def estimate(found: Sequence[tuple[Run, float]], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return the estimate from a value of each of several runs, of which those of one seed or training are a unit."""
    level = level_of(run for run, _ in found)
    units = tuple(run.seeds[level] for run, _ in found) if level is not None else ()
    return Estimate(tuple(value for _, value in found), units, bounds)


def accuracy(part: PartName) -> Column:
    """Return the column of the accuracy on a part of the data."""
    wanted: Wanted = "match" if part == "forget" else "higher"

    def find(metrics: Metrics, model: ModelName) -> float:
        return metrics["models"][model]["accuracy"][part]

    return Column("", part, f"accuracy_{part}", "", find, wanted=wanted)


def gap(attack: str) -> Column:
    """Return the column of an attack's AUC less that on the retrained model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else gaps_of(metrics["gap"][model]).get(attack)

    return Column("gap", attack, "gap", attack, find, DIFFERENCE, "zero")


def time_over_retraining(stage: Literal["unlearning", "references"]) -> Column:
    """Return the column of the time that unlearning or its reference models took over that of retraining."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        if model != _UNLEARNED:
            return None
        if stage == "unlearning":
            return metrics["unlearning_over_retraining"]
        return metrics["references_over_retraining"] or None  # no reference models, no column of them

    name = "" if stage == "unlearning" else stage
    return Column("time / retraining", name, f"{stage}_over_retraining", "", find, POSITIVE, "lower", digits=2)


def _of_gap(name: str, measure: Callable[[Gap], float], wanted: Wanted) -> Column:
    """Return the column of one number that is made of all gaps of a model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else measure(metrics["gap"][model])

    return Column("overall", name, name, "", find, wanted=wanted)


AVERAGE_GAP = _of_gap("average gap", average_gap, "zero")
TOW = _of_gap("ToW", tug_of_war, "higher")
TOW_MIA = _of_gap("ToW-MIA", lambda found: tug_of_war(found, attacks=True), "higher")


def auc(attack: str) -> Column:
    """Return the column of an attack's AUC."""
    return of_attack("AUC", "auc", attack)


def of_attack(
    section: str,
    metric: Literal["auc", "balanced_accuracy", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "epsilon_low"],
    attack: str,
    bounds: tuple[float, float] = RATE,
) -> Column:
    """Return the column of one number of an attack on a model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found[metric]

    return Column(section, attack, metric, attack, find, bounds)


def precision(prior: str, attack: str) -> Column:
    """Return the column of an attack's precision at a threshold of shadow models; see `operating.operating_point`."""
    key, section = f"precision_at_prior_{prior}", f"precision, prior {100 * float(prior):g}%"

    def find(metrics: Metrics, model: ModelName) -> float | None:
        measured = metrics["models"][model]["attacks"].get(attack)
        point: Mapping[str, Any] = {} if measured is None else measured.get("operating", {})
        found: float | None = point.get(key)
        return found

    return Column(section, attack, key, attack, find)
