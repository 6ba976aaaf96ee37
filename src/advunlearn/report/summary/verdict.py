"""The verdict over several runs in sentences: which unlearner comes nearest to retraining, and how certain that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advunlearn.evaluation.comparison import strongest_attack
from advunlearn.report.summary.columns import Estimate, accuracy, time_over_retraining
from advunlearn.report.summary.folders import AUDIT_ONLY, SHADOWS_ONLY, Run, level_of
from advunlearn.report.summary.runs import Group, Summary, attacks_of


@dataclass(frozen=True)
class Comparison:
    """Groups that differ in their unlearner only, so that they can be compared."""

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
        others = [group for group in found if not retrains(group.runs)]
        return sorted(others or found, key=lambda group: float(np.mean(_sizes(group, self.strongest))))

    @property
    def tied(self) -> list[Group]:
        """Return the other groups whose gaps, seed by seed, are not larger beyond the 95 % interval."""
        nearest, *others = self.ranked
        return [group for group in others if not is_farther(group, nearest, self.strongest)]


def comparisons(summary: Summary) -> list[Comparison]:
    """Return one comparison for each setting, in the order of the table."""
    names = dict.fromkeys(group.setting for group in summary.groups)
    return [Comparison(name, tuple(group for group in summary.groups if group.setting == name)) for name in names]


def sentences(summary: Summary) -> list[str]:
    """Return the verdict: a few sentences for each setting, and one on runs without a result."""
    lines = [" ".join(_of_comparison(comparison)) for comparison in comparisons(summary)]
    without = [run for run in summary.missing if run.state not in (SHADOWS_ONLY, AUDIT_ONLY)]
    total = sum(len(group.runs) for group in summary.groups) + len(without)
    if without:
        lines.append(f"{len(without)} of {total} runs {'has' if len(without) == 1 else 'have'} no result.")
    return lines or ["There is no result yet."]


def shown(estimate: Estimate | None, digits: int = 3, sign: str = "") -> str:
    """Return `mean ± half of the interval`, its ends instead if bounds cut it; the mean alone of one run.

    Without a number the text is empty.
    """
    if estimate is None:
        return ""
    mean, ends = f"{estimate.mean:{sign}.{digits}f}", estimate.ends
    if ends is None:
        return mean
    if estimate.is_cut:
        return f"{mean} [{', '.join(f'{end:.{digits}f}' for end in ends)}]"
    return f"{mean} ± {estimate.half:.{digits}f}"


def is_farther(group: Group, other: Group, attack: str) -> bool:
    """Return whether a group's gap is larger than another's beyond the 95 % interval, over the seeds that both have."""
    level = level_of([*group.runs, *other.runs])
    theirs, ours = group.sizes(attack, level), other.sizes(attack, level)
    both = Estimate(tuple(theirs[seed] - ours[seed] for seed in theirs if seed in ours))
    return len(both.values) > 1 and both.half is not None and both.mean > both.half


def _of_comparison(comparison: Comparison) -> list[str]:
    nearest, attack = comparison.ranked[0], comparison.strongest
    where = f"{comparison.name}: " if comparison.name else ""
    name = nearest.name.removesuffix(f", {comparison.name}") if comparison.name else nearest.name
    did = "came nearest to the retrained model" if len(comparison.ranked) > 1 else "against the retrained model"
    tested, time = accuracy("test"), time_over_retraining("unlearning").of(nearest.runs, "unlearned")
    kept, aim = (shown(tested.of(nearest.runs, model)) for model in ("unlearned", "retrained"))
    spent = shown(time, 2)
    better = ", so that retraining would have been the better unlearner" if time and time.mean >= 1 else ""
    first = (
        f"{where}{name} {did}: under {attack}, the strongest attack on the original model, its AUC lies "
        f"{shown(nearest.gap(attack), sign='+')} off the retrained model's (the original's: "
        f"{shown(nearest.gap(attack, 'original'), sign='+')}), at a test accuracy of {kept} (retrained: {aim}) and in "
        f"{spent} times the time of retraining{better} ({_over(nearest)})."
    )
    return [first, *_widest(nearest, attack), *_ties(comparison)]


def _over(group: Group) -> str:
    """Return what the intervals of a group are over."""
    level = level_of(group.runs)
    if level is None:
        return "one seed: the spread over seeds is not known"
    count = len({run.seeds[level] for run in group.runs})
    name = {"seed": "seeds", "training": "trainings"}.get(level, f"repetitions of the {level} alone")
    return f"mean ± 95 % interval of {count} {name}"


def _widest(group: Group, strongest: str) -> list[str]:
    """Return a sentence if another attack finds a larger gap."""
    widest = max(attacks_of(group.runs), key=lambda name: float(np.mean(_sizes(group, name))))
    if widest == strongest:
        return []
    return [f"Of all attacks, {widest} finds the largest gap there: {shown(group.gap(widest), sign='+')}."]


def _ties(comparison: Comparison) -> list[str]:
    if len(comparison.ranked) < 2:
        return []
    if len(comparison.ranked[0].runs) < 2:
        return ["One seed cannot show whether the others are farther away."]
    tied = comparison.tied
    if not tied:
        return ["Every other group is farther away, beyond the 95 % interval over seeds."]
    names = "; ".join(group.name for group in tied) if len(tied) <= 3 else f"{len(tied)} other groups"
    return [f"These seeds do not distinguish it from: {names}."]


def _sizes(group: Group, attack: str) -> list[float]:
    return list(group.sizes(attack).values())


def retrains(runs: Sequence[Run]) -> bool:
    """Return whether the unlearner of these runs is retraining itself."""
    return str(runs[0].config.get("unlearner._target_", "")).endswith(".Retrain")
