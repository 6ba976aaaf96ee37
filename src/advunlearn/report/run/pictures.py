"""The pictures of a report, each from plain arrays to the bytes of a PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from advunlearn.evaluation.attack_metrics import question_in_words
from advunlearn.evaluation.comparison import primary
from advunlearn.evaluation.further_metrics import Relearning
from advunlearn.evaluation.metrics_file import Rounds, Trace
from advunlearn.evaluation.names import MODELS, FollowedName
from advunlearn.report.drawing import literal
from advunlearn.storage.files import atomic_write

COLORS = {"original": "#999999", "retrained": "#009e73", "unlearned": "#d55e00"}
FORGET, TEST, DARK = "#d55e00", "#0072b2", "#333333"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#666666",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
# What is drawn of a game; the trace of another unlearner may hold anything else.
GAME = {
    "auditor_accuracy",
    "base_gradient_norm",
    "base_loss",
    "cosine",
    "game_gradient_norm",
    "uninformed_utility",
    "utility",
}
FLOOR = 1e-8  # losses below it are drawn on it: their axis is logarithmic


class Shown(Figure):  # type: ignore[misc]
    """A figure that a notebook shows, also if pyplot was never imported there."""

    def _repr_png_(self) -> bytes:
        return png(self)


def draw(
    trace: Trace,
    scores: Mapping[str, NDArray[Any]],
    rounds: Rounds | None = None,
    also: Callable[[str, Figure], None] | None = None,
    relearning: Relearning | None = None,
) -> dict[str, bytes]:
    """Return the pictures of a run by name: `roc` and `losses`, and as far as there are, the others.

    The others are `trace` (of a game), `algorithm` (of attacks on it), `rounds` and `relearning`.

    Args:
        trace: of `metrics.json`.
        scores: the arrays of `scores.npz`.
        rounds: of `metrics.json`, if there are several requests.
        also: is called with each name and figure, such as `vector_files`.
        relearning: of `metrics.json`.
    """
    with rc_context(STYLE):
        figures = {"roc": roc_figure(scores), "losses": loss_figure(scores)}
        if trace.get("step") and trace.keys() >= GAME:
            figures = {"trace": trace_figure(trace), **figures}
        if asked := _asked(scores):
            figures["algorithm"] = algorithm_figure(scores, asked)
        if rounds is not None:
            figures["rounds"] = rounds_figure(rounds)
        if relearning is not None:
            figures["relearning"] = relearning_figure(relearning)
        return pngs(figures, also)


def _figure(
    rows: int, columns: int, width: float, height: float, *, extra: float = 0.0, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, each with its margins `width` x `height` inches.

    The margins are fixed: matplotlib's own layouts take as long as the drawing itself. `extra` more inches are left
    to the right of each panel, for the labels of a second axis.
    """
    figure = Shown(figsize=(columns * width, rows * height))
    left, right, bottom, top, gap = 0.8, 0.2 + extra, 0.5, 0.35, 0.65 + extra
    panels = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    inner_width = (columns * width - left - right - (columns - 1) * gap) / columns
    inner_height = (rows * height - bottom - top - (rows - 1) * (bottom + top)) / rows
    figure.subplots_adjust(
        left=left / (columns * width),
        right=1 - right / (columns * width),
        bottom=bottom / (rows * height),
        top=1 - top / (rows * height),
        wspace=gap / inner_width,
        hspace=(bottom + top) / inner_height,
    )
    return figure, list(panels.flat)


def trace_figure(trace: Trace) -> Figure:
    """Return the game step by step: the leader's loss, the auditor's accuracy and utility, both gradient norms."""
    played = all(norm is not None for norm in trace["game_gradient_norm"])
    figure, panels = _figure(2, 2, 6, 3, extra=0.85) if played else _figure(1, 3, 4, 3, extra=0.85)
    steps = trace["step"]
    panels[0].plot(steps, trace["base_loss"], color=DARK, linewidth=1)
    scale = "log" if min(trace["base_loss"]) > 0 else "linear"  # a loss that ascends somewhere may fall below zero
    panels[0].set(title="leader: its own loss", yscale=scale)
    _draw_auditor(panels[1], trace)
    panels[2].plot(steps, _smooth(trace["base_gradient_norm"]), color=DARK, label="its own loss")
    panels[2].set(title="gradient norms", yscale="log")
    if played:
        # A capped auditor that sees nothing has no gradient: a gap in the line, not a fall to 1e-300.
        game = np.array(trace["game_gradient_norm"])
        panels[2].plot(steps, np.where(game > 0, game, np.nan), color=FORGET, linewidth=1, label="game")
        panels[3].plot(steps, np.array(trace["cosine"], float), color=DARK, linewidth=1)
        panels[3].axhline(0, color="#bbbbbb", linestyle=":", linewidth=1)
        panels[3].set(title="cosine of the two gradients", ylim=(-1, 1))
    for axes in panels:
        axes.set_xlabel("step")
        if epochs := trace.get("epochs"):
            axes.axvline(epochs["step"][epochs["chosen"]], color=DARK, linestyle="--", linewidth=1, label="epoch kept")
    panels[2].legend(loc="best")
    return figure


def _draw_auditor(axes: Axes, trace: Trace) -> None:
    """Draw accuracy (left axis) and utility (right axis), dotted at the values of an auditor that cannot tell."""
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    for side, column, chance, color in (
        (axes, trace["auditor_accuracy"], 0.5, TEST),
        (right, trace["utility"], trace["uninformed_utility"], FORGET),
    ):
        side.plot(trace["step"], column, color=color, linewidth=0.5, alpha=0.4)
        side.plot(trace["step"], _smooth(column), color=color)
        side.axhline(chance, color=color, linestyle=":", linewidth=1)
        side.tick_params(axis="y", colors=color)
    axes.set_ylabel("held-out accuracy", color=TEST)
    right.set_ylabel("utility", color=FORGET)
    axes.set(title="auditor", ylim=(0.3, 1))


def roc_figure(scores: Mapping[str, NDArray[Any]]) -> Figure:
    """Return one log-log ROC panel for each attack, with the three models in it."""
    attacks = [name.split("/", 1)[1] for name in scores if name.startswith(f"{MODELS[0]}/")]
    attacks = [name for name in primary(attacks) if name != "loss"]
    figure, panels = _figure(1, len(attacks), 4 * max(1, 2 / len(attacks)), 3.8)
    members = scores["member"]
    least = 0.5 / max(1, int((~members).sum()))
    for axes, attack in zip(panels, attacks, strict=True):
        for model in MODELS:
            _draw_roc(axes, model, scores[f"{model}/{attack}"], members, least)
        axes.set(title=literal(attack))
    panels[0].set_ylabel("true-positive rate")
    panels[0].legend(loc="lower right")
    return figure


def _asked(scores: Mapping[str, NDArray[Any]]) -> list[tuple[str, str]]:
    """Return each attack and question on the algorithm that has scores: `algorithm/attack/question/model`."""
    names = (name.split("/") for name in scores if name.startswith("algorithm/"))
    return list(dict.fromkeys((attack, question) for _, attack, question, _ in names))


def algorithm_figure(scores: Mapping[str, NDArray[Any]], asked: Sequence[tuple[str, str]]) -> Figure:
    """Return one log-log ROC panel for each question on the algorithm, over the scores of all its models."""
    figure, panels = _figure(1, len(asked), 4 * max(1, 2 / len(asked)), 3.8)
    for axes, (attack, question) in zip(panels, asked, strict=True):
        for model in MODELS:
            ratios = scores[f"algorithm/{attack}/{question}/{model}"]
            known = ~np.isnan(ratios)
            first = np.broadcast_to(np.arange(2)[:, None, None] == 0, ratios.shape)
            _draw_roc(axes, model, ratios[known], first[known], 0.5 / max(1, int(known[1].sum())))
        axes.set(title=literal(f"{attack}: {question_in_words(question)}"))
    panels[0].set_ylabel("true-positive rate")
    panels[0].legend(loc="lower right")
    return figure


def loss_figure(scores: Mapping[str, NDArray[Any]]) -> Figure:
    """Return one histogram of forget and test losses for each model."""
    members = scores["member"]
    losses = {model: np.maximum(scores[f"{model}/loss"], FLOOR) for model in MODELS}
    everything = np.concatenate(list(losses.values()))
    bins = np.geomspace(everything.min() * 0.999, everything.max() * 1.001, 31)
    figure, panels = _figure(1, 3, 4, 3, sharey=True)
    for axes, model in zip(panels, MODELS, strict=True):
        for name, part, color in (("forget", members, FORGET), ("test", ~members, TEST)):
            values = losses[model][part]
            weights = np.full(len(values), 1 / len(values))
            look: Any = {"color": color, "alpha": 0.45, "label": f"{name} ({len(values)})", "histtype": "stepfilled"}
            axes.hist(values, bins.tolist(), weights=weights, **look)
        axes.set(title=model, xscale="log", xlabel="cross-entropy (nats)")
        if bins[-1] > 10 * bins[0]:  # without them a shorter axis may have no label
            axes.minorticks_off()
    panels[0].set_ylabel("share of examples")
    panels[0].legend(loc="upper left")
    return figure


def rounds_figure(rounds: Rounds) -> Figure:
    """Return how each model answers the examples of each request; dots at the right are the retrained model's."""
    titles: dict[FollowedName, str] = {"accuracy": "accuracy", "auc": "AUC of the loss"}
    figure, panels = _figure(1, 2, 6, 3.2)
    last = len(rounds["models"])
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        for request in range(len(rounds["examples"])):
            color = colormaps["viridis"](0.9 * request / (last - 1))
            values = [model[name][request] for model in rounds["models"]]
            axes.plot(values, color=color, marker=".", label=f"request {request + 1}")
            axes.plot(request + 1, values[request + 1], color=color, marker="v", markersize=8)
            axes.plot(last, rounds["retrained"][name][request], color=color, marker="o")
        axes.set_xticks(range(last + 1), ["original", *map(str, range(1, last)), "retrained"])
        axes.set(title=title, xlabel="after request")
    panels[1].axhline(0.5, color="#bbbbbb", linestyle=":", linewidth=1)
    panels[0].legend(loc="best")
    return figure


def relearning_figure(found: Relearning) -> Figure:
    """Return how the three models answer while they are fine-tuned on the retain set, with 95 % intervals."""
    titles = {"forget": "accuracy on the forget set", "auc": "AUC of the loss"}
    figure, panels = _figure(1, 2, 6, 3.2)
    for axes, (number, title) in zip(panels, titles.items(), strict=True):
        for name in MODELS:
            curve: Mapping[str, Any] = found["models"][name]
            low, high = curve[f"{number}_low"], curve[f"{number}_high"]
            axes.plot(curve["step"], curve[number], color=COLORS[name], marker=".", label=name)
            axes.fill_between(curve["step"], low, high, color=COLORS[name], alpha=0.15, linewidth=0)
        axes.set_xscale("symlog", linthresh=1)  # 0, and powers of two
        axes.set(title=title, xlabel="step of fine-tuning on retain examples")
    panels[1].axhline(0.5, color="#bbbbbb", linestyle=":", linewidth=1)
    panels[0].legend(loc="best")
    return figure


def _draw_roc(axes: Axes, model: str, scores: NDArray[Any], positive: NDArray[np.bool_], least: float) -> None:
    """Draw the curve of a model on logarithmic axes that begin at `least`, and the line of guessing."""
    from advunlearn.evaluation.metrics import roc_curve_points  # scikit-learn, which no other picture needs

    fpr, tpr = roc_curve_points(scores, positive)
    axes.plot(fpr.clip(least), tpr.clip(least), color=COLORS[model], label=model, drawstyle="steps-post")
    if model == MODELS[-1]:
        axes.plot([least, 1], [least, 1], color="#bbbbbb", linestyle=":", linewidth=1)
        _log_axes(axes, least)


def _log_axes(axes: Axes, least: float) -> None:
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.1), xlabel="false-positive rate")
    axes.minorticks_off()  # most of the time of drawing, for ticks without labels
    for rate in (0.01, 0.001):
        if rate > least:
            axes.axvline(rate, color="#dddddd", linewidth=0.8, zorder=0)


def _smooth(values: list[float]) -> NDArray[Any]:
    """Return the mean over a window of a fiftieth of the steps, shorter at the ends."""
    width = max(1, len(values) // 50)
    window = np.ones(width)
    return np.asarray(np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same"))


def pngs(figures: Mapping[str, Figure], also: Callable[[str, Figure], None] | None = None) -> dict[str, bytes]:
    """Return the PNG of each figure; `also` is called with each name and figure."""
    if also is not None:
        for name, figure in figures.items():
            also(name, figure)
    return {name: png(figure) for name, figure in figures.items()}


def png(figure: Figure) -> bytes:
    """Return the bytes of a PNG: the same figure gives the same ones."""
    # No version or date in the file: the same run draws the same bytes.
    return _saved(figure, "png", {"Software": None})


def vector_files(folder: Path) -> Callable[[str, Figure], None]:
    """Return what writes a figure as `NAME.pdf`, its fonts embedded, and as `NAME.svg` into a folder."""

    def write(name: str, figure: Figure) -> None:
        with rc_context({"pdf.fonttype": 42, "svg.hashsalt": name}):  # TrueType: some journals refuse Type 3
            files = {
                "pdf": _saved(figure, "pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
                "svg": _saved(figure, "svg", {"Date": None, "Creator": None}),
            }
        for kind, content in files.items():
            with atomic_write(folder / f"{name}.{kind}") as temporary:
                temporary.write_bytes(content)

    return write


def _saved(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=130, metadata=metadata)
    return file.getvalue()
