"""The columns of a summary: the numbers of a model, and their means and 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from advunlearn.evaluation.comparison import average_gap, primary, tug_of_war
from advunlearn.evaluation.further_metrics import DistributionMetrics, Relearning, WeightMetrics
from advunlearn.evaluation.metrics_file import Gap, Metrics
from advunlearn.evaluation.names import ModelName, PartName
from advunlearn.report.run.further import widest_gap
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
        return None if model == _RETRAINED else metrics["gap"][model]["attacks"].get(attack)

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


def run_columns(attacks: Iterable[str]) -> list[Column]:
    """Return the columns of runs that differ in any option."""
    attacks = list(attacks)
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [*map(accuracy, SHOWN_PARTS), *map(_auc, attacks), *map(gap, attacks), *times, *further_columns()]


# The columns that a user can choose, by what is typed, for the attacks of the runs.
METRICS: dict[str, Callable[[Sequence[str]], list[Column]]] = {
    "accuracy": lambda attacks: [accuracy(part) for part in SHOWN_PARTS],
    "accuracy_test": lambda attacks: [accuracy("test")],
    "accuracy_forget": lambda attacks: [accuracy("forget")],
    "accuracy_retain": lambda attacks: [accuracy("retain")],
    "auc": lambda attacks: [_auc(attack) for attack in attacks],
    "gap": lambda attacks: [gap(attack) for attack in attacks],
    "tpr@0.01": lambda attacks: [_of_attack("TPR at 1% FPR", "tpr_at_fpr_0.01", attack) for attack in attacks],
    "tpr@0.001": lambda attacks: [_of_attack("TPR at 0.1% FPR", "tpr_at_fpr_0.001", attack) for attack in attacks],
    "balanced_accuracy": lambda attacks: [
        _of_attack("balanced accuracy", "balanced_accuracy", attack) for attack in attacks
    ],
    "epsilon": lambda attacks: [_of_attack("epsilon at least", "epsilon_low", attack, POSITIVE) for attack in attacks],
    "precision": lambda attacks: [_precision(prior, attack) for prior in PRIORS for attack in attacks],
    "average_gap": lambda attacks: [AVERAGE_GAP],
    "tow": lambda attacks: [TOW],
    "tow_mia": lambda attacks: [TOW_MIA],
    "time": lambda attacks: [time_over_retraining("unlearning")],
}


def chosen_columns(metrics: Iterable[str], attacks: Sequence[str]) -> list[Column]:
    """Return the columns of these keys of `METRICS`, each once, in their order."""
    return list({(c.metric, c.attack): c for name in metrics for c in METRICS[name](attacks)}.values())


def every_column(attacks: Sequence[str]) -> list[Column]:
    """Return all columns that there are."""
    return [*chosen_columns(METRICS, attacks), time_over_retraining("references"), *further_columns()]


def method_columns(attacks: Iterable[str]) -> list[Column]:
    """Return the columns of a comparison of methods."""
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [
        *map(accuracy, SHOWN_PARTS),
        *map(gap, attacks),
        AVERAGE_GAP,
        TOW,
        TOW_MIA,
        *times,
        *further_columns(),
    ]


def two_model_columns(runs: Iterable[Run]) -> list[Column]:
    """Return the AUC of each attack that these runs have and that compares two models, so that it has no gap."""
    found = [run.metrics for run in runs if run.metrics is not None]
    names = (
        name
        for each in found
        for name in primary(each["models"][_UNLEARNED]["attacks"])
        if name not in each["gap"][_UNLEARNED]["attacks"]
    )
    return [_auc(name) for name in dict.fromkeys(names)]


def retained_columns(runs: Iterable[Run]) -> list[Column]:
    """Return the AUC on retained examples of each attack for which these runs have it."""
    found = [run.metrics.get("retained") for run in runs if run.metrics is not None]
    names = dict.fromkeys(name for each in found if each is not None for name in each["models"][_UNLEARNED])
    return [_of_retained(name) for name in names]


def _of_retained(attack: str) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["retained"]["models"][model].get(attack) if "retained" in metrics else None
        return None if found is None else found["auc"]

    return Column("retained AUC", attack, "retained_auc", attack, find, terminal=False)


def further_columns() -> list[Column]:
    """Return the columns for which a terminal has no room; those that no run has are left out."""
    return [
        _of_relearning("accuracy forget", lambda found, model: found["models"][model]["forget"][-1], RATE),
        _of_relearning("widest gap", lambda found, model: widest_gap(found, model, "forget"), DIFFERENCE),
        Column("canaries", "AUC", "canaries_auc", "", _canaries, terminal=False),
        Column("neighbour classes", "distance", "neighbour_distance", "", _neighbours, wanted="lower", terminal=False),
        Column("swap", "advantage", "swap_advantage", "", _advantage, wanted="zero", terminal=False),
        _of_distributions("KLoM forget", lambda found: found["klom"]["forget"]),
        _of_distributions("forgetting quality", lambda found: found["forgetting_quality"]),
        _of_weights("from original", lambda found: found["from_original"]),
        _of_weights("barrier test", lambda found: found["barrier"]["test"]),
        Column("audit", "control passed", "control_passed", "", _control_passed, wanted="higher", terminal=False),
        Column("memory", "MB", "peak_memory_mb", "", _peak_memory, POSITIVE, "lower", digits=0, terminal=False),
    ]


def _auc(attack: str) -> Column:
    return _of_attack("AUC", "auc", attack)


def _of_attack(
    section: str,
    metric: Literal["auc", "balanced_accuracy", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "epsilon_low"],
    attack: str,
    bounds: tuple[float, float] = RATE,
) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found[metric]

    return Column(section, attack, metric, attack, find, bounds)


def _precision(prior: str, attack: str) -> Column:
    """Return the column of an attack's precision at a threshold of shadow models; see `operating.operating_point`."""
    key, section = f"precision_at_prior_{prior}", f"precision, prior {100 * float(prior):g}%"

    def find(metrics: Metrics, model: ModelName) -> float | None:
        measured = metrics["models"][model]["attacks"].get(attack)
        point: Mapping[str, Any] = {} if measured is None else measured.get("operating", {})
        found: float | None = point.get(key)
        return found

    return Column(section, attack, key, attack, find)


def _of_relearning(name: str, measure: Callable[[Relearning, ModelName], float], bounds: tuple[float, float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        return measure(metrics["relearning"], model) if "relearning" in metrics else None

    return Column("relearning", name, f"relearning_{name}".replace(" ", "_"), "", find, bounds, terminal=False)


def _canaries(metrics: Metrics, model: ModelName) -> float | None:
    return metrics["canaries"]["models"][model]["auc"] if "canaries" in metrics else None


def _advantage(metrics: Metrics, model: ModelName) -> float | None:
    return metrics["swap"]["models"][model]["advantage"] if "swap" in metrics else None


def _of_distributions(name: str, measure: Callable[[DistributionMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["distributions"]["models"] if "distributions" in metrics else {}
        return measure(found[model]) if model in found else None

    bounds = POSITIVE if name.startswith("KLoM") else RATE
    return Column("many models", name, name.lower().replace(" ", "_"), "", find, bounds, terminal=False)


def _of_weights(name: str, measure: Callable[[WeightMetrics], float]) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["weights"]["models"] if "weights" in metrics else {}
        return measure(found[model]) if model in found else None

    return Column("weights", name, f"weights_{name}".replace(" ", "_"), "", find, POSITIVE, terminal=False)


def _neighbours(metrics: Metrics, model: ModelName) -> float | None:
    """Return the distance of the neighbour classes to retrained models; of these, the floor, if it is known."""
    if (found := metrics.get("neighbours")) is None:
        return None
    return found["floor"] if model == _RETRAINED else found["models"][model]["distance"]


def _control_passed(metrics: Metrics, model: ModelName) -> float | None:
    """Return 1 if the control of the audit passed, 0 if not; it is a retrained model."""
    found = metrics.get("control")
    return None if found is None or model != _RETRAINED else float(not found["failed"])


def _peak_memory(metrics: Metrics, model: ModelName) -> float | None:
    """Return the peak memory of unlearning on CUDA; that of the CPU depends on what the process did before."""
    found = metrics.get("unlearning")
    if model != _UNLEARNED or found is None or found["device"] != "cuda" or found["peak_memory"] is None:
        return None
    return found["peak_memory"] / 1e6
