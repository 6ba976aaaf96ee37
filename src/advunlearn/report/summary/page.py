"""One self-contained page for several runs, and their table as files beside it."""

from __future__ import annotations

from html import escape
from pathlib import Path

from advunlearn.report.parts import card, figure, fill
from advunlearn.report.summary.formats import FORMATS, figures, heads, sections, what
from advunlearn.report.summary.runs import Run, Summary, accuracy, time_over_retraining
from advunlearn.report.summary.verdict import Problem, problems, sentences, shown
from advunlearn.storage.files import atomic_write

FILES = {"table.csv": "csv", "table.md": "markdown", "table.tex": "latex"}
CAPTIONS = {
    "gaps": (
        "How far each attack tells it from a retrained model",
        "An attack's AUC on the unlearned model less that on the retrained model of the same seed: a dot a seed, a "
        "square for their mean, a line for its 95 % interval. On the dotted line the two models look the same; both "
        "sides of it are a leak. Dashed: the original model, before unlearning.",
    ),
    "utility": (
        "Privacy against utility",
        "The strongest attack's gap to the retrained model, and the accuracy on the test set; means over seeds and "
        "their 95 % intervals. The retrained model is the place to be.",
    ),
    "times": (
        "What it costs",
        "Time of unlearning over time of retraining, a dot a seed, a square for the mean; left of the line unlearning "
        "is the cheaper one. Hollow: with the reference models, which serve every later request.",
    ),
    "traces": (
        "The two players",
        "The game's audit steps, means over seeds and their 95 % intervals: how often the auditor tells forget from "
        "audit examples that it was not fitted on (one half: it cannot), and the leader's own loss.",
    ),
}
INTRODUCTION = """<h2>The table</h2>
<p>Means over seeds with half of their 95&nbsp;% interval. The <b class="retrained">retrained</b> model never saw the
forget set: it is what unlearning aims at, and every number of the <b class="unlearned">unlearned</b> model is to match
it. The gap is an attack's AUC less the retrained model's, seed by seed; far below zero is as much a leak as far above
it.</p>"""


def write_overview(summary: Summary, folder: Path) -> str:
    """Write `report.html`, `table.csv`, `table.md` and `table.tex` into a folder and return a line that says where.

    Raises:
        OSError: if the folder cannot be written.
    """
    from advunlearn.report.summary.pictures import draw_overview  # matplotlib takes a second to import

    for name, style in FILES.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(FORMATS[style](summary) + "\n", encoding="utf-8")
    with atomic_write(folder / "report.html") as temporary:
        temporary.write_text(render_overview(summary, draw_overview(summary)), encoding="utf-8")
    return f"report: {folder / 'report.html'}, with {', '.join(FILES)} beside it"


def render_overview(summary: Summary, pictures: dict[str, bytes]) -> str:
    """Return the page: the verdict, the table, the pictures, and the runs without a result."""
    from advunlearn import __version__

    compared = problems(summary)
    done = sum(len(group.runs) for group in summary.groups)
    body = [
        f"<div class='cards'>{''.join(_cards(compared[0]))}</div>" if len(compared) == 1 else "",
        f"{INTRODUCTION}<div class='wide'><table>{_table(summary)}</table></div>" if summary.rows else "",
        *(figure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures),
        _missing(summary),
    ]
    return fill(
        title="Unlearning report: several runs",
        subtitle=f"{_count(done, 'finished run')} in {_count(len(summary.groups), 'group')}",
        verdict="<br>".join(map(escape, sentences(summary))),
        body="\n".join(body),
        footer=f"<p>{escape(_footer(summary, compared))} advunlearn {__version__}.</p>",
    )


def _cards(problem: Problem) -> list[str]:
    """Return the numbers of the verdict: of the original and the retrained model and of the nearest unlearned one."""
    nearest, attack = problem.ranked[0], problem.strongest
    tested, time = accuracy("test"), time_over_retraining("unlearning").of(nearest.runs, "unlearned")
    return [
        card(
            f"gap of {attack}, the strongest attack",
            {model: shown(nearest.gap(attack, model), sign="+") for model in ("original", "unlearned")},
        ),
        card(
            "accuracy on the test set",
            {model: shown(tested.of(nearest.runs, model)) for model in ("original", "retrained", "unlearned")},
        ),
        card("time over retraining", {"retrained": "1", "unlearned": shown(time, 2)}),
    ]


def _table(summary: Summary) -> str:
    words = len(summary.keys)
    names = [*heads(summary)[: words + 2], *(column.name for column in summary.columns)]
    above = "".join(
        f"<th class='group' colspan='{len(columns)}'>{escape(section or 'accuracy')}</th>"
        for section, columns in sections(summary)
    )
    is_word = [True] * words + [False, True] + [False] * len(summary.columns)
    head = "".join(_cell("th", name, word) for name, word in zip(names, is_word, strict=True))
    body, previous = [], None
    for row in summary.rows:
        # A line where the original models end and another problem or group begins.
        mark = " class='section'" if previous not in (None, row.model) else ""
        labels = [*row.labels, str(len(row.runs)), row.model]
        marked = "".join(_cell("td", label, word, row.model) for label, word in zip(labels, is_word, strict=False))
        numbers = "".join(f"<td>{_with_interval(number)}</td>" for number in figures(summary, row))
        body.append(f"<tr{mark}>{marked}{numbers}</tr>")
        previous = row.model
    return (
        f"<thead><tr><th colspan='{words + 2}'></th>{above}</tr><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    )


def _cell(kind: str, words: str, is_word: bool, model: str = "") -> str:
    classes = " ".join(filter(None, ["words" if is_word else "", model if words == model else ""]))
    return f"<{kind} class='{classes}'>{escape(words)}</{kind}>" if classes else f"<{kind}>{escape(words)}</{kind}>"


def _with_interval(words: str) -> str:
    number, _, half = words.partition(" ")
    return f"{number}<span class='interval'>{half}</span>" if half else number


def _missing(summary: Summary) -> str:
    """Return the list of runs without a result, and of what else is not in the table."""
    if not summary.missing and not summary.repeats:
        return ""
    head = "".join(f"<th class='words'>{word}</th>" for word in ("state", "run", "reason", "folder"))
    lines = "".join(_missing_line(summary, run) for run in summary.missing)
    table = f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    repeats = f"<p class='soft'>{_count(summary.repeats, 'run')} left out: a later one repeats its config and seed.</p>"
    return (f"<h2>Not in the table</h2>{table}" if summary.missing else "") + (repeats if summary.repeats else "")


def _missing_line(summary: Summary, run: Run) -> str:
    cells = (run.state, what(summary, run), run.error, str(run.folder))
    classes = ("words", "words", "words free", "words free")
    return f"<tr>{''.join(f'<td class={c!r}>{escape(w)}</td>' for w, c in zip(cells, classes, strict=True))}</tr>"


def _footer(summary: Summary, compared: list[Problem]) -> str:
    lines = [
        "Nearest is by the mean size of the gap, so that seeds on both sides of the retrained model do not cancel."
    ]
    strongest = {problem.strongest for problem in compared}
    if strongest:
        lines.append(f"The strongest attack ({', '.join(sorted(strongest))}) is chosen on the original model.")
    seeds = dict.fromkeys(run.seed for group in summary.groups for run in group.runs)
    if seeds:
        lines.append(f"Seeds {', '.join(seeds)}.")
    return " ".join(lines)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
