"""One self-contained page for several runs, and their table as files next to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from advunlearn.evaluation.names import COMPARED, MODELS
from advunlearn.report.drawing import drawing, drawn
from advunlearn.report.html import Card, render_page
from advunlearn.report.summary.columns import accuracy, time_over_retraining
from advunlearn.report.summary.formats import FORMATS, first_cells, first_heads, notes_of, numbers_of, sections, what
from advunlearn.report.summary.formats import legend as legend_of_numbers
from advunlearn.report.summary.methods import standings
from advunlearn.report.summary.per_run import runs_csv
from advunlearn.report.summary.runs import Summary
from advunlearn.report.summary.selection import best_rows
from advunlearn.report.summary.variance import legend, remarks, table
from advunlearn.report.summary.verdict import Comparison, comparisons, sentences, shown
from advunlearn.storage.files import atomic_write

FILES: dict[str, Callable[[Summary], str]] = {
    "table.csv": FORMATS["csv"],
    "table.md": FORMATS["markdown"],
    "table.tex": FORMATS["latex"],
    "runs.csv": runs_csv,
}


def write_overview(summary: Summary, folder: Path) -> str:
    """Write `report.html`, its pictures and the tables of `FILES` into a folder and return a line with their paths.

    Raises:
        OSError: if the folder cannot be written.
    """
    for name, made in FILES.items():
        with atomic_write(folder / name) as temporary:
            # The name of a folder need not be valid UTF-8.
            temporary.write_text(made(summary) + "\n", encoding="utf-8", errors="backslashreplace")
    pictures = drawn(lambda: _draw(summary, folder))
    for name, picture in pictures.items():
        with atomic_write(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture)
    with atomic_write(folder / "report.html") as temporary:
        temporary.write_text(render_overview(summary, pictures), encoding="utf-8")
    return f"report: {folder / 'report.html'}, with {', '.join(FILES)} next to it"


def _draw(summary: Summary, folder: Path) -> dict[str, bytes]:
    with drawing():
        from advunlearn.report.run.pictures import vector_files  # matplotlib takes a second to import
        from advunlearn.report.summary.pictures import draw_overview

        return draw_overview(summary, vector_files(folder))


def render_overview(summary: Summary, pictures: dict[str, bytes]) -> str:
    """Return the page: the verdict, the table, the pictures, and the runs without a result."""
    from advunlearn import __version__

    compared = comparisons(summary)
    runs = [run for group in summary.groups for run in group.runs]
    verdict = standings(summary) if summary.by_method else sentences(summary)
    return render_page(
        "summary.html",
        pictures,
        title="Unlearning report: several runs",
        summary=summary,
        done=len(runs),
        sentences=verdict[:2] if summary.by_method else verdict,
        standings=verdict[2:] if summary.by_method else [],
        cards=_cards(compared[0]) if len(compared) == 1 and not summary.by_method else [],
        first=first_heads(summary),
        sections=sections(summary),
        rows=[
            (row, first_cells(summary, row), numbers_of(summary, row), note)
            for row, note in zip(summary.rows, notes_of(summary), strict=True)
        ],
        best=best_rows(summary),
        key="; ".join(legend_of_numbers(summary, "bold")),
        remarks=remarks(summary),
        components=table(summary),
        legend=legend(table(summary)),
        missing=[(run, what(summary, run)) for run in summary.missing],
        strongest=[] if summary.by_method else sorted({comparison.strongest for comparison in compared}),
        seeds=list(dict.fromkeys(run.seed for run in runs)),
        version=__version__,
    )


def _cards(comparison: Comparison) -> list[Card]:
    """Return the numbers of the verdict: of the original and the retrained model and of the nearest unlearned one."""
    nearest, attack = comparison.ranked[0], comparison.strongest
    tested, time = accuracy("test"), time_over_retraining("unlearning").of(nearest.runs, "unlearned")
    return [
        (
            f"gap of {attack}, the strongest attack",
            {model: shown(nearest.gap(attack, model), sign="+") for model in COMPARED},
        ),
        ("accuracy on the test set", {model: shown(tested.of(nearest.runs, model)) for model in MODELS}),
        ("time over retraining", {"retrained": "1", "unlearned": shown(time, 2)}),
    ]
