"""What several runs come to, in sentences: who came nearest to retraining, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advunlearn.evaluation.comparison import strongest_attack
from advunlearn.report.summary.runs import (
    SHADOWS_ONLY,
    Estimate,
    Group,
    Summary,
    accuracy,
    attacks_of,
    time_over_retraining,
)


@dataclass(frozen=True)
class Problem:
    """Groups that differ in their unlearner only: those that can be held against each other."""

    name: str
    groups: tuple[Group, ...]

    @cached_property
    def strongest(self) -> str:
        """Return the strongest attack of all runs of the groups; see `strongest_attack`."""
        return strongest_attack([run.metrics for group in self.groups for run in group.runs if run.metrics])

    @cached_property
    def ranked(self) -> list[Group]:
        """Return the groups that the strongest attack was run on, the nearest to retraining first.

        Nearest is by the mean size of the gap, so that seeds on both sides of the retrained model do not cancel.
        Retraining itself is ranked only where nothing else is.
        """
        found = [group for group in self.groups if group.gap(self.strongest) is not None]
        others = [group for group in found if not _retrains(group)]
        return sorted(others or found, key=lambda group: float(np.mean(_sizes(group, self.strongest))))

    @property
    def tied(self) -> list[Group]:
        """Return the other groups whose gaps, seed by seed, are not larger beyond the 95 % interval."""
        nearest, *others = self.ranked
        return [group for group in others if not _farther(group, nearest, self.strongest)]


def problems(summary: Summary) -> list[Problem]:
    """Return the groups by what they have in common but for the unlearner, in the table's order."""
    names = dict.fromkeys(group.problem for group in summary.groups)
    return [Problem(name, tuple(group for group in summary.groups if group.problem == name)) for name in names]


def sentences(summary: Summary) -> list[str]:
    """Return the verdict: a few sentences for each problem, and one on runs without a result."""
    lines = [" ".join(_of_problem(problem)) for problem in problems(summary)]
    without = [run for run in summary.missing if run.state != SHADOWS_ONLY]
    total = sum(len(group.runs) for group in summary.groups) + len(without)
    if without:
        lines.append(f"{len(without)} of {total} runs {'has' if len(without) == 1 else 'have'} no result.")
    return lines or ["There is no result yet."]


def shown(estimate: Estimate | None, digits: int = 3, sign: str = "") -> str:
    """Return `mean ± half of the interval`, the mean alone of one run, nothing without a number."""
    if estimate is None:
        return ""
    half = "" if estimate.half is None else f" ± {estimate.half:.{digits}f}"
    return f"{estimate.mean:{sign}.{digits}f}{half}"


def _of_problem(problem: Problem) -> list[str]:
    nearest, attack, seeds = problem.ranked[0], problem.strongest, len(problem.ranked[0].runs)
    where = f"{problem.name}: " if problem.name else ""
    name = nearest.name.removesuffix(f", {problem.name}") if problem.name else nearest.name
    did = "came nearest to the retrained model" if len(problem.ranked) > 1 else "against the retrained model"
    tested, time = accuracy("test"), time_over_retraining("unlearning").of(nearest.runs, "unlearned")
    kept, aim = (shown(tested.of(nearest.runs, model)) for model in ("unlearned", "retrained"))
    spent = shown(time, 2)
    better = ", so that retraining would have been the better unlearner" if time and time.mean >= 1 else ""
    over = f"mean ± 95 % interval of {seeds} seeds" if seeds > 1 else "one seed, so that its luck is not known"
    first = (
        f"{where}{name} {did}: under {attack}, the strongest attack on the original model, its AUC lies "
        f"{shown(nearest.gap(attack), sign='+')} off the retrained model's (the original's: "
        f"{shown(nearest.gap(attack, 'original'), sign='+')}), at a test accuracy of {kept} (retrained: {aim}) and in "
        f"{spent} times the time of retraining{better} ({over})."
    )
    return [first, *_widest(nearest, attack), *_ties(problem)]


def _widest(group: Group, strongest: str) -> list[str]:
    """Say so if another attack finds more."""
    widest = max(attacks_of(group.runs), key=lambda name: float(np.mean(_sizes(group, name))))
    if widest == strongest:
        return []
    return [f"Of all attacks, {widest} finds the widest gap there: {shown(group.gap(widest), sign='+')}."]


def _ties(problem: Problem) -> list[str]:
    if len(problem.ranked) < 2:
        return []
    if len(problem.ranked[0].runs) < 2:
        return ["With one seed nobody can say whether the others are farther."]
    tied = problem.tied
    if not tied:
        return ["Every other group is farther, beyond the seeds' interval."]
    names = "; ".join(group.name for group in tied) if len(tied) <= 3 else f"{len(tied)} other groups"
    return [f"These seeds do not tell it from: {names}."]


def _sizes(group: Group, attack: str) -> list[float]:
    return [abs(value) for value in group.seeds(attack).values()]


def _farther(group: Group, nearest: Group, attack: str) -> bool:
    """Is the group's gap larger than the nearest group's, over the seeds that both have?"""
    theirs, ours = group.seeds(attack), nearest.seeds(attack)
    both = Estimate(tuple(abs(theirs[seed]) - abs(ours[seed]) for seed in theirs if seed in ours))
    return len(both.values) > 1 and both.half is not None and both.mean > both.half


def _retrains(group: Group) -> bool:
    return str(group.runs[0].config.get("unlearner._target_", "")).endswith(".Retrain")
