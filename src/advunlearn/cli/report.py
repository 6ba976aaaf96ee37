"""`advunlearn report`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import fail, print_text, refuse
from advunlearn.runtime.terminal import table_width

EPILOG = """\
Several runs, or the runs below a folder, are grouped: runs that differ only in seeds form one group. The table is
printed. report.html, table.csv, table.md and table.tex are written into the given folder, into report/ if several are
given, or into --out; the last line names the file. Runs without a result are listed with the reason.

  advunlearn report outputs/sweeps/ID
  advunlearn report outputs/digits/sg/* --format latex
  advunlearn report outputs/sweeps/ID --metrics gap,tpr@0.01 --best bold

Next to report.html: runs.csv with a line for each run and its config, and each picture as PNG, PDF and SVG.
"""


def main(arguments: list[str]) -> int:
    """`advunlearn report`: the table and report of one run, or means and 95 % intervals of several over seeds."""
    parser = parser_of("report", main.__doc__, EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one with runs below it")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "csv", "latex"),
        help="how the table of means is printed (default text); with the others, stdout holds only the table",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write the report of several runs")
    parser.add_argument("--metrics", type=_words, default=[], help="the columns: auc,gap,tpr@0.01,accuracy_test,...")
    parser.add_argument("--models", type=_words, default=[], help="the rows: original,retrained,unlearned")
    parser.add_argument("--best", choices=("bold",), help="mark the best unlearned model of each column")
    options = parser.parse_args(arguments)
    from advunlearn.report.summary.folders import find_runs

    problems = [*_unknown("--metrics", options.metrics), *_unknown("--models", options.models)]
    try:
        runs = [] if problems else find_runs(options.runs)
        if not problems and options.format in (None, "text"):
            _searches(map(_folder, options.runs))
    except ValueError as error:
        problems = [str(error)]
    if problems:
        return refuse(problems)
    itself = len(options.runs) == 1 and runs == [_folder(options.runs[0])]
    selected = bool(options.metrics or options.models or options.best)
    if itself and options.format is None and options.out is None and not selected:
        return _one(runs[0])
    out = options.out or (_folder(options.runs[0]) if len(options.runs) == 1 else Path("report"))
    # One run's folder has a report of its own.
    return _several(runs, options, None if itself and options.out is None else out)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _unknown(flag: str, words: list[str]) -> list[str]:
    """Return a line for each word that the flag does not know."""
    from advunlearn.evaluation.names import MODELS
    from advunlearn.options import nearest
    from advunlearn.report.summary.column_sets import METRICS

    known = list(METRICS) if flag == "--metrics" else list(MODELS)
    return [
        f"{flag} {word}: choose from {', '.join(known)}{nearest(word, known)}" for word in words if word not in known
    ]


def _searches(folders: Iterable[Path]) -> None:
    """Print the trials of each of these folders that holds a search."""
    from advunlearn.report.summary.folders import SEARCH
    from advunlearn.report.summary.search import read_search, search_text

    for folder in folders:
        if (folder / SEARCH).is_file():
            print_text(f"{search_text(read_search(folder))}\n\n")


def _folder(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _one(run: Path) -> int:
    from advunlearn.cli.one_run import show_audit
    from advunlearn.evaluation.metrics_file import is_audit, read_metrics
    from advunlearn.options import UserError
    from advunlearn.report.run.page import write_report
    from advunlearn.report.run.terminal import comparison_table

    try:
        if is_audit(run):
            show_audit(run)
            return 0
        table = comparison_table(read_metrics(run), table_width())
    except UserError as error:
        return refuse([str(error)])
    try:
        page = write_report(run)
    except UserError as error:  # a damaged manifest: the numbers are there
        print_text(f"{table}\n")
        return refuse([str(error)])
    except OSError as error:  # a folder of another user, for example
        print_text(f"{table}\n")
        return fail(OSError(f"{run}: the report cannot be written ({error.strerror}); try --out DIR"))
    print_text(f"{table}\n\nreport: {page}\n")
    return 0


def _several(runs: list[Path], options: argparse.Namespace, out: Path | None) -> int:
    from advunlearn.report.plain_text import printable
    from advunlearn.report.summary.formats import FORMATS, text
    from advunlearn.report.summary.page import write_overview
    from advunlearn.report.summary.runs import summarise
    from advunlearn.report.summary.selection import select

    style, summary = options.format or "text", summarise(runs)
    if options.metrics or options.models or options.best:
        summary = select(summary, options.metrics, options.models, best=options.best is not None)
    table = text(summary, table_width()) if style == "text" else FORMATS[style](summary)
    print_text(f"{table}\n")
    if out is None:
        return 0
    try:
        where = write_overview(summary, out)
    except OSError as error:
        return fail(OSError(f"{out}: the report cannot be written ({error.strerror}); try --out DIR"))
    # A table for a program or a document is printed without any other text.
    (sys.stdout if style == "text" else sys.stderr).write(printable(f"\n{where}\n"))
    return 0
