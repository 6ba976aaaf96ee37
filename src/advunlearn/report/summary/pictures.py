"""The pictures of several runs, each from a summary to the bytes of a PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from advunlearn.evaluation.names import MODELS, ModelName
from advunlearn.report.drawing import literal
from advunlearn.report.run.pictures import COLORS, DARK, STYLE, TEST, pngs
from advunlearn.report.summary.columns import RATE, Estimate, accuracy, estimate, time_over_retraining
from advunlearn.report.summary.folders import Run
from advunlearn.report.summary.methods import CONTROLS, EXCESS, floor
from advunlearn.report.summary.runs import Group, Summary
from advunlearn.report.summary.verdict import Comparison, comparisons

ACROSS = 4  # panels side by side
LABEL = 34  # letters of a group's name on one line
TRACES = 24  # panels in one picture


def draw_overview(summary: Summary, also: Callable[[str, Figure], None] | None = None) -> dict[str, bytes]:
    """Return the pictures by name: `gaps`, `utility`, `times`, and `traces` if there was a game; see `pngs`."""
    if not summary.groups:
        return {}
    with rc_context(STYLE):
        compared = comparisons(summary)
        figures = {
            "gaps": gap_figure(summary),
            "utility": methods_figure(summary) if summary.by_method else utility_figure(compared),
            "times": time_figure(summary.groups),
        }
        played = [group for group in summary.groups if _traced(group)]
        if played:
            figures["traces"] = trace_figure(played[:TRACES])
        return pngs(figures, also)


def gap_figure(summary: Summary) -> Figure:
    """Return one panel for each attack, one line in it for each group."""
    groups, attacks = summary.groups, summary.attacks
    down, across = _grid(len(attacks))
    lines = sum(_wrapped(group.name).count("\n") + 1 for group in groups)
    figure = Figure(figsize=(12, down * (0.9 + 0.26 * lines)), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True, sharex=True).flatten()
    for axes, attack in zip(panels, attacks, strict=False):
        for place, group in enumerate(groups):
            _estimate(axes, place, group.gap(attack), COLORS["unlearned"])
            if (before := group.gap(attack, "original")) is not None:
                ends = (place - 0.42, place + 0.42)
                axes.plot([before.mean] * 2, ends, color=COLORS["original"], linestyle="--", linewidth=1.2)
        axes.axvline(0, color=COLORS["retrained"], linestyle=":", linewidth=1.4, zorder=0)
        axes.set(title=literal(attack))
        axes.xaxis.set_tick_params(labelbottom=True)
    _name_groups(panels[0], groups)
    panels[0].set_xlim(
        _around([0.0, *(value for group in groups for attack in attacks for value in _seen(group, attack))])
    )
    for axes in panels[len(attacks) :]:
        axes.set_visible(False)
    figure.supxlabel("AUC less the retrained model's", fontsize=10)
    return figure


def utility_figure(compared: Sequence[Comparison]) -> Figure:
    """Return one panel for each setting: the strongest attack's gap against the accuracy on the test set."""
    figure = Figure(figsize=(12, sum(max(4.2, 0.9 + 0.24 * _lines(each)) for each in compared)), layout="constrained")
    rows = figure.subplots(len(compared), 2, squeeze=False, width_ratios=(2, 1))
    for (axes, legend), comparison in zip(rows, compared, strict=True):
        _draw_comparison(axes, comparison)
        legend.axis("off")
        numbered = [
            f"{n}  {_wrapped(group.name)}".replace("\n", "\n    ") for n, group in enumerate(comparison.ranked, 1)
        ]
        legend.text(0, 1, "\n".join(["nearest first", *numbered]), va="top", linespacing=1.35)
    return figure


def methods_figure(summary: Summary) -> Figure:
    """Return the distance to the retrained model, under the attack that finds most, against the test accuracy.

    A marker grows with the time of unlearning; the floor, what retraining again gives, is shaded. The control that
    forgets too much is left out: it would compress the others.
    """
    tested = accuracy("test")
    figure = Figure(figsize=(12, max(6.0, 0.9 + 0.24 * len(summary.groups))), layout="constrained")
    axes, legend = figure.subplots(1, 2, width_ratios=(2, 1))
    names, tops = ["nearest first"], [0.0]
    across: list[float] = []
    for number, group in enumerate((each for each in summary.groups if each.name != EXCESS), 1):
        right, size = tested.of(group.runs, "unlearned"), group.size(group.widest(summary.attacks))
        time = time_over_retraining("unlearning").of(group.runs, "unlearned")
        if right is None or size is None:
            continue
        color = COLORS["retrained" if group.name in CONTROLS else "unlearned"]
        width = 12 + 8 * min(2.0, time.mean if time else 0.0)
        _cross(axes, right, size, color)
        axes.plot(right.mean, size.mean, "o", color=color, markersize=width, markeredgecolor="white", alpha=0.8)
        axes.annotate(
            str(number), (right.mean, size.mean), ha="center", va="center_baseline", color="white", fontsize=8.5
        )
        names.append(f"{number}  {literal(group.name)}")
        across += _values(right)
        tops += _values(size)
    floors = [found for attack in summary.attacks if (found := floor(summary, attack)) is not None]
    tops += floors
    if floors:
        axes.axhspan(0, max(floors), color=COLORS["retrained"], alpha=0.15, linewidth=0)
    known = tested.of([run for group in summary.groups for run in group.runs], "retrained")
    if known is not None:
        axes.axvline(known.mean, color=COLORS["retrained"], linestyle=":", linewidth=1.4, zorder=0)
        axes.set_xlim(_around([*across, known.mean]))
    axes.set(xlabel="accuracy on the test set", ylabel="largest gap of an attack's AUC to the retrained model")
    axes.set_ylim(0, _around(tops)[1])
    legend.axis("off")
    legend.text(0, 1, "\n".join(names), va="top", linespacing=1.35)
    return figure


def time_figure(groups: Sequence[Group]) -> Figure:
    """Return the time over that of retraining of each group."""
    lines = sum(_wrapped(group.name).count("\n") + 1 for group in groups)
    figure = Figure(figsize=(12, 1.1 + 0.28 * lines), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(groups):
        own = time_over_retraining("unlearning").of(group.runs, "unlearned")
        shared = time_over_retraining("references").of(group.runs, "unlearned")
        if own is not None:  # without the interval, which can reach zero: a logarithmic axis cannot
            _estimate(axes, place, replace(own, bounds=(own.mean, own.mean)), COLORS["unlearned"])
        if own is not None and shared is not None:
            whole = own.mean + shared.mean
            axes.plot([own.mean, whole], [place, place], color=COLORS["unlearned"], linewidth=0.8, linestyle=":")
            axes.plot(whole, place, "s", color=COLORS["unlearned"], markerfacecolor="white", markersize=7)
    axes.axvline(1, color=COLORS["retrained"], linestyle=":", linewidth=1.4, zorder=0)
    axes.set(xlabel="time of unlearning / time of retraining (logarithmic)", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    marks = [np.asarray(line.get_xdata(), dtype=float).ravel() for line in axes.lines if line.get_marker() != "None"]
    known = np.concatenate([[0.5, 2.0], *marks])
    axes.set_xlim(known[known > 0].min() / 1.2, known.max() * 1.2)
    _name_groups(axes, groups)
    return figure


def trace_figure(groups: Sequence[Group]) -> Figure:
    """Return one panel for each group that played: the auditor's accuracy and the leader's loss, means over seeds."""
    down, across = _grid(len(groups))
    figure = Figure(figsize=(12, 0.3 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, group in zip(panels, groups, strict=False):
        right = axes.twinx()
        right.spines["right"].set_visible(True)
        _mean_line(axes, group, "auditor_accuracy", TEST)
        _mean_line(right, group, "base_loss", DARK)
        axes.axhline(0.5, color=TEST, linestyle=":", linewidth=1)
        axes.set(ylim=(min(0.3, axes.get_ylim()[0]), 1.02), xlabel="step")
        axes.set_title(_wrapped(group.name), fontsize=9)
    panels[0].set_ylabel("auditor's held-out accuracy", color=TEST)
    figure.axes[len(panels) + across - 1].set_ylabel("leader's loss", color=DARK)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    return figure


def _draw_comparison(axes: Axes, comparison: Comparison) -> None:
    attack, tested = comparison.strongest, accuracy("test")
    runs = [run for group in comparison.groups for run in group.runs]
    for number, group in reversed(list(enumerate(comparison.ranked, 1))):
        right, gap = tested.of(group.runs, "unlearned"), group.gap(attack)
        if right is not None and gap is not None:
            _cross(axes, right, gap, COLORS["unlearned"])
            axes.plot(right.mean, gap.mean, "o", color=COLORS["unlearned"], markersize=15, markeredgecolor="white")
            axes.text(
                right.mean,
                gap.mean,
                str(number),
                ha="center",
                va="center_baseline",
                color="white",
                fontsize=8.5,
                fontweight="bold",
            )
    before = [gap for group in comparison.groups if (gap := group.gap(attack, "original")) is not None]
    heights: dict[ModelName, float] = {"original": float(np.mean([gap.mean for gap in before])), "retrained": 0.0}
    for model, height in heights.items():
        known = tested.of(runs, model)
        if known is not None:
            axes.plot(known.mean, height, "D", color=COLORS[model], markersize=10, markeredgecolor="white", zorder=4)
            axes.annotate(model, (known.mean, height), (9, 7), textcoords="offset points", color=COLORS[model])
    axes.axhline(0, color=COLORS["retrained"], linestyle=":", linewidth=1.4, zorder=0)
    axes.set(xlabel="accuracy on the test set", ylabel=f"{literal(attack)}: AUC less the retrained model's")
    axes.set_title(_wrapped(comparison.name))
    across = [value for model in MODELS for value in _values(tested.of(runs, model))]
    across += [value for group in comparison.groups for value in _values(tested.of(group.runs, "unlearned"))]
    axes.set_xlim(_around(across))
    axes.set_ylim(_around([0.0, *(value for group in comparison.groups for value in _seen(group, attack))]))


def _estimate(axes: Axes, place: float, found: Estimate | None, color: str) -> None:
    """Draw a dot for each run, a square for the mean and a line for its interval."""
    if found is None:
        return
    if found.ends is not None:
        axes.plot(found.ends, [place, place], color=color, linewidth=1.4, solid_capstyle="butt")
        axes.plot(found.values, [place + 0.24] * len(found.values), "o", color=DARK, alpha=0.5, markersize=3.5, mew=0)
    axes.plot(found.mean, place, "s", color=color, markersize=6, markeredgecolor="white")


def _cross(axes: Axes, right: Estimate, gap: Estimate, color: str) -> None:
    if right.ends is not None:
        axes.plot(right.ends, (gap.mean, gap.mean), color=color, alpha=0.45, linewidth=1.2)
    if gap.ends is not None:
        axes.plot((right.mean, right.mean), gap.ends, color=color, alpha=0.45, linewidth=1.2)


def _mean_line(axes: Axes, group: Group, name: Literal["auditor_accuracy", "base_loss"], color: str) -> None:
    """Draw the mean of a column of the traces, over the steps that all seeds have, and its interval."""
    runs = _traced(group)
    traces = [run.metrics["trace"] for run in runs if run.metrics]
    length = min(len(trace["step"]) for trace in traces)
    columns = np.array([[np.nan if v is None else v for v in trace[name][:length]] for trace in traces])
    steps = traces[0]["step"][:length]
    axes.plot(steps, columns.mean(0), color=color, linewidth=1.2)
    seen = list(columns[np.isfinite(columns)])
    axes.tick_params(axis="y", colors=color)
    if len(traces) > 1:
        bounds = RATE if name == "auditor_accuracy" else (-math.inf, math.inf)
        found = [estimate(list(zip(runs, column, strict=True)), bounds).ends for column in columns.T]
        low, high = np.array(found, dtype=float).T
        axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
        seen += [*low[np.isfinite(low)], *high[np.isfinite(high)]]
    axes.set_ylim(_around(seen))


def _traced(group: Group) -> list[Run]:
    """Return the runs with a trace of the game."""
    found = [(run, run.metrics["trace"]) for run in group.runs if run.metrics]
    return [run for run, trace in found if trace.get("step") and {"auditor_accuracy", "base_loss"} <= trace.keys()]


def _seen(group: Group, attack: str) -> list[float]:
    """Return the gaps that have to fit into a picture."""
    before = group.gap(attack, "original")
    own = group.gap(attack)
    return [*_values(own), *([before.mean] if before else [])]


def _values(found: Estimate | None) -> tuple[float, ...]:
    """Return the values and the ends of the interval: what has to fit into a picture."""
    return (*found.values, *(found.ends or ())) if found else ()


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that holds these values with some room."""
    low, high = min(values), max(values)
    room = 0.1 * max(high - low, 0.02)
    return low - room, high + room


def _name_groups(axes: Axes, groups: Sequence[Group]) -> None:
    axes.set_yticks(range(len(groups)), [_wrapped(group.name) for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)


def _wrapped(name: str) -> str:
    return textwrap.fill(literal(name), LABEL)


def _lines(comparison: Comparison) -> int:
    return sum(_wrapped(group.name).count("\n") + 1 for group in comparison.ranked)


def _grid(panels: int) -> tuple[int, int]:
    """Return rows and columns for some panels."""
    across = min(panels, ACROSS)
    return -(-panels // across), across
