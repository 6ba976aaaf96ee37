"""The table of several runs for a terminal, a document, a program and a paper."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from advunlearn.options import one_line
from advunlearn.report.plain_text import align, blocks, wrapped
from advunlearn.report.summary import variance
from advunlearn.report.summary.columns import Column, Estimate
from advunlearn.report.summary.folders import METHOD, TARGET, Run
from advunlearn.report.summary.methods import TIED, notes, standings
from advunlearn.report.summary.runs import ModelRow, Summary
from advunlearn.report.summary.selection import best_rows
from advunlearn.report.summary.verdict import shown

TIE = r"$^{=}$"  # in LaTeX
LEGEND = "mean ± half of the 95 % interval over seeds; gap: AUC less that of the retrained model; 0 is the aim"
ENDS = "in brackets, the ends of an interval that would leave the range of the number"
BEST = (
    "best of its column: nearest to the retrained model, seed by seed, or the highest retain and test accuracy; "
    "retraining takes no part"
)


def text(summary: Summary, width: int | None = None) -> str:
    """Return the table for a terminal of this width, with the runs that are not in it; None for any width."""
    shown = summary if width is None else _for_terminal(summary)
    lines = blocks(cells(shown), len(first_heads(shown)), width) if shown.rows else []
    remarks = [*legend(shown), *variance.remarks(summary)] if summary.rows else []
    if shown.rows and (further := _further(summary, shown)):
        remarks.append(f"further columns with --wide and in the other formats: {', '.join(further)}")
    lines += wrapped(remarks, width)
    if parts := variance.table(summary):
        lines += ["", *blocks(parts, 2, width), *wrapped([variance.legend(parts)], width)]
    remarks = ["", *standings(summary)] if summary.by_method else []
    remarks += [*(f"no result: {line}" for line in absent(summary)), *_repeats(summary)]
    return "\n".join([*lines, *wrapped(remarks, width)])


def legend(summary: Summary, mark: str = "*") -> list[str]:
    """Return what the numbers of the table are, a line each."""
    several = any("[" in number for row in summary.rows for number in numbers_of(summary, row))
    count = {len(row.runs) for row in summary.rows}
    runs = [f"{count.pop()} runs in each row"] if summary.selected and len(count) == 1 else []
    return [LEGEND, *([ENDS] if several else []), *([f"{mark}: {BEST}"] if summary.best else []), *runs]


def _for_terminal(summary: Summary) -> Summary:
    """Return the summary without the columns that only wide tables have."""
    if summary.selected:
        return summary
    return replace(summary, columns=tuple(column for column in summary.columns if column.terminal))


def markdown(summary: Summary) -> str:
    """Return the table for a document, with the runs that are not in it."""
    lines = []
    if summary.rows:
        about = "; ".join(legend(summary, "bold"))
        lines = [*_markdown_table(cells(summary, "**{}**")), about, ""]
        lines += [f"{line}\n" for line in variance.remarks(summary)]
        if parts := variance.table(summary):
            lines += [*_markdown_table(parts), variance.legend(parts), ""]
        lines += [*(f"- {line}" for line in standings(summary)), ""] if summary.by_method else []
    lines += [f"- no result: {_markdown_cell(line)}" for line in absent(summary)]
    return "\n".join([*lines, *(f"- {line}" for line in _repeats(summary))])


def comma_separated(summary: Summary) -> str:
    """Return one line for each number of each group's models, unrounded, and one for each run without a result."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    numbers = ("model", "attack", "metric", "mean", "low", "high", "n")
    writer.writerow((*_labels(summary), "seeds", *numbers, "state", "error", "folder"))
    for row in summary.rows:
        seeds = " ".join(run.seed for run in row.runs)
        for column in summary.columns:
            if found := column.of(row.runs, row.model):
                values = (row.model, column.attack, column.metric, found.mean, *_ends(found), len(found.means))
                writer.writerow((*row.labels, seeds, *values, "completed", "", ""))
        if row.model == "unlearned":
            for attack, metric, value, count in variance.numbers(summary, row.labels):
                values = (row.model, attack, metric, value, "", "", count)
                writer.writerow((*row.labels, seeds, *values, "completed", "", ""))
    for run in summary.missing:
        blank = [""] * len(numbers)
        writer.writerow((*summary.labels(run), run.seed, *blank, run.state, run.error, run.folder))
    return file.getvalue().rstrip("\n")


def latex(summary: Summary) -> str:
    r"""Return a `tabular` for a paper, to be `\input` after `\usepackage{booktabs}`."""
    if not summary.rows:
        return "\n".join(["% no run has a result yet", *(f"% no result: {line}" for line in absent(summary))])
    words = first_heads(summary)
    kinds = ["r" if word == "runs" else "l" for word in words] + ["r"] * len(summary.columns)
    lines = [
        rf"% needs \usepackage{{booktabs}}; {'; '.join(legend(summary, 'bold'))}",
        *([rf"% {TIE}: {TIED} under every attack"] if summary.by_method else []),
        rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        r"\toprule",
        *_latex_sections(summary),
        _latex_line([tex(word) for word in (*words, *_names(summary))]),
    ]
    previous, starts = "", ("original", "unlearned")
    numbered = marked(summary, r"\mathbf{{{}}}")
    for row, note, found in zip(summary.rows, notes_of(summary), numbered, strict=True):
        if (row.model != previous and row.model in starts) or not previous:
            lines.append(r"\midrule")
        previous = row.model
        numbers = [f"${number}$".replace("±", r"\pm").replace(" [", r"\ [") if number else "" for number in found]
        first, *others = map(tex, first_cells(summary, row))
        lines.append(_latex_line([f"{first} {TIE}" if note == TIED else first, *others, *numbers]))
    lines.append(r"\bottomrule")
    if summary.missing:
        width = len(words) + len(summary.columns)
        count = f"Runs without a result, not in the table: {len(summary.missing)}."
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {count}}} \\")
    rows = variance.table(summary)
    parts = [*variance.remarks(summary), *align(rows), variance.legend(rows)] if rows else variance.remarks(summary)
    lines += [r"\end{tabular}", *(f"% {line}" for line in parts)]
    return "\n".join([*lines, *(f"% no result: {line}" for line in absent(summary))])


FORMATS: dict[str, Callable[[Summary], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}


def heads(summary: Summary) -> list[str]:
    """Return the headings of the table's columns."""
    columns = [f"{column.section} {column.name}".strip() for column in summary.columns]
    return [*first_heads(summary), *columns, *(["note"] if summary.by_method else [])]


def first_heads(summary: Summary) -> list[str]:
    """Return the headings of the columns of words that begin a row."""
    heads = [METHOD, "runs"] if summary.by_method else [*_labels(summary), "runs", "model"]
    return [heads[each] for each in _varying(summary)]


def first_cells(summary: Summary, row: ModelRow) -> list[str]:
    """Return the words that begin a row: what identifies it, and its number of runs."""
    found = _words(summary, row)
    return [found[each] for each in _varying(summary)]


def _words(summary: Summary, row: ModelRow) -> list[str]:
    count = str(len(row.runs))
    return [row.labels[0] or row.model, count] if summary.by_method else [*row.labels, count, row.model]


def _varying(summary: Summary) -> list[int]:
    """Return the columns of words: all of them, or if the user chose what is shown, the first and those that vary."""
    columns = list(zip(*(_words(summary, row) for row in summary.rows), strict=True))
    if not summary.selected or not columns:
        return list(range(len(summary.keys) + (1 if summary.by_method else 2)))
    varying = [number for number, column in enumerate(columns) if len(set(column)) > 1]
    return varying or [len(columns) - 1]


def notes_of(summary: Summary) -> list[str]:
    """Return the note of each row; empty for those of a table that is no comparison."""
    if not summary.by_method:
        return [""] * len(summary.rows)
    found = dict(zip((group.labels for group in summary.groups), notes(summary), strict=True))
    return [found.get(row.labels, "") if row.model == "unlearned" else "" for row in summary.rows]


def cells(summary: Summary, mark: str = "{} *") -> list[list[str]]:
    """Return the table as text, the headings first; `mark` formats the best number of a column."""
    found = zip(summary.rows, marked(summary, mark), strict=True)
    table = [[*first_cells(summary, row), *numbers] for row, numbers in found]
    if summary.by_method:
        table = [[*cells, note] for cells, note in zip(table, notes_of(summary), strict=True)]
    return [heads(summary), *table]


def numbers_of(summary: Summary, row: ModelRow) -> list[str]:
    """Return the numbers of one row as text."""
    return [shown(column.of(row.runs, row.model), column.digits) for column in summary.columns]


def marked(summary: Summary, mark: str) -> list[list[str]]:
    """Return the numbers of all rows as text, the best of each column in this format."""
    best, table = best_rows(summary), [numbers_of(summary, row) for row in summary.rows]
    return [
        [mark.format(text) if place in rows else text for text, rows in zip(numbers, best, strict=True)]
        for place, numbers in enumerate(table)
    ]


def sections(summary: Summary) -> list[tuple[str, list[Column]]]:
    """Return the columns by section, a heading above several of them."""
    return [
        (section, list(columns))
        for section, columns in itertools.groupby(summary.columns, lambda column: column.section)
    ]


def absent(summary: Summary) -> list[str]:
    """Return a line for each run without a result: its folder, what identifies it, its state and the reason."""
    lines = (f"{run.folder} ({', '.join(filter(None, [what(summary, run), _reason(run)]))})" for run in summary.missing)
    return [one_line(line) for line in lines]


def what(summary: Summary, run: Run) -> str:
    """Return what identifies a run among the others, in short, as far as it is known."""
    keys = [key.removesuffix(f".{TARGET}").rsplit(".", 1)[-1] for key in (*summary.keys, "seed")]
    values = zip(keys, (*summary.labels(run), run.seed), strict=True)
    return " ".join(f"{key}={value}" for key, value in values if value)


def tex(words: str) -> str:
    """Return text with the special characters of TeX escaped."""
    return "".join(_TEX.get(letter, letter) for letter in words)


_TEX = {letter: rf"\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
}


def _reason(run: Run) -> str:
    return f"{run.state}: {run.error}" if run.error else run.state


def _repeats(summary: Summary) -> list[str]:
    return [f"{summary.repeats} repeats of a seed left out: a later run has the same config"] if summary.repeats else []


def _labels(summary: Summary) -> list[str]:
    return [key.removesuffix(f".{TARGET}") for key in summary.keys]


def _further(summary: Summary, shown: Summary) -> list[str]:
    """Return the names of the columns that are not shown."""
    return [f"{column.section} {column.name}" for column in summary.columns if column not in shown.columns]


def _names(summary: Summary) -> list[str]:
    return [column.name for column in summary.columns]


def _ends(found: Estimate) -> tuple[float | str, float | str]:
    """Return the ends of the interval, empty for a single run."""
    return found.ends or ("", "")


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(map(_markdown_cell, row))} |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *body, ""]


def _markdown_cell(words: str) -> str:
    return words.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def _latex_sections(summary: Summary) -> Iterable[str]:
    """Return the line of section headings, and the rules below them."""
    before = len(first_heads(summary))
    spanned, rules, start = [""] * before, [], before + 1
    for section, columns in sections(summary):
        spanned.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{tex(section or 'accuracy')}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    return [_latex_line(spanned), " ".join(rules)]


def _latex_line(words: Sequence[str]) -> str:
    return " & ".join(words) + r" \\"
