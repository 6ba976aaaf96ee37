"""The table of several runs for a terminal, a document, a program and a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from advunlearn.options import one_line
from advunlearn.report.plain_text import align
from advunlearn.report.summary.runs import TARGET, Column, Estimate, ModelRow, Run, Summary
from advunlearn.report.summary.verdict import shown

LEGEND = "mean ± half of the 95 % interval over seeds; gap: AUC less that of the retrained model; 0 is the aim"


def text(summary: Summary) -> str:
    """Return the table for a terminal, with the runs that are not in it."""
    lines = [*align(cells(summary)), LEGEND] if summary.rows else []
    return "\n".join([*lines, *(f"no result: {line}" for line in absent(summary)), *_repeats(summary)])


def markdown(summary: Summary) -> str:
    """Return the table for a document, with the runs that are not in it."""
    lines = []
    if summary.rows:
        head, *body = (f"| {' | '.join(map(_markdown_cell, row))} |" for row in cells(summary))
        lines = [head, "|" + "---|" * len(heads(summary)), *body, "", LEGEND, ""]
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
                values = (row.model, column.attack, column.metric, found.mean, *_ends(found), len(found.values))
                writer.writerow((*row.labels, seeds, *values, "completed", "", ""))
    for run in summary.missing:
        blank = [""] * len(numbers)
        writer.writerow((*summary.labels(run), run.seed, *blank, run.state, run.error, run.folder))
    return file.getvalue().rstrip("\n")


def latex(summary: Summary) -> str:
    r"""Return a `tabular` for a paper, to be `\input` after `\usepackage{booktabs}`."""
    if not summary.rows:
        return "\n".join(["% no run has a result yet", *(f"% no result: {line}" for line in absent(summary))])
    labels = len(summary.keys)
    lines = [
        rf"% needs \usepackage{{booktabs}}; {LEGEND}",
        rf"\begin{{tabular}}{{{'l' * labels}rl{'r' * len(summary.columns)}}}",
        r"\toprule",
        *_latex_sections(summary),
        _latex_line([tex(word) for word in (*_labels(summary), "runs", "model", *_names(summary))]),
    ]
    previous = ""
    for row in summary.rows:
        if row.model != previous and row.model in ("original", "unlearned"):
            lines.append(r"\midrule")
        previous = row.model
        numbers = [f"${number}$".replace("±", r"\pm") if number else "" for number in numbers_of(summary, row)]
        lines.append(_latex_line([*map(tex, row.labels), str(len(row.runs)), tex(row.model), *numbers]))
    lines.append(r"\bottomrule")
    if summary.missing:
        width = labels + 2 + len(summary.columns)
        count = f"Runs without a result, not in the table: {len(summary.missing)}."
        lines.append(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {count}}} \\")
    return "\n".join([*lines, r"\end{tabular}", *(f"% no result: {line}" for line in absent(summary))])


FORMATS: dict[str, Callable[[Summary], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}


def heads(summary: Summary) -> list[str]:
    """Return the headings of the table's columns."""
    columns = [f"{column.section} {column.name}".strip() for column in summary.columns]
    return [*_labels(summary), "runs", "model", *columns]


def cells(summary: Summary) -> list[list[str]]:
    """Return the table as text, the headings first."""
    return [
        heads(summary),
        *([*row.labels, str(len(row.runs)), row.model, *numbers_of(summary, row)] for row in summary.rows),
    ]


def numbers_of(summary: Summary, row: ModelRow) -> list[str]:
    """Return the numbers of one row as text."""
    return [shown(column.of(row.runs, row.model), column.digits) for column in summary.columns]


def sections(summary: Summary) -> list[tuple[str, list[Column]]]:
    """Return the columns by section, a heading above several of them."""
    return [(section, list(columns)) for section, columns in groupby(summary.columns, lambda column: column.section)]


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


def _names(summary: Summary) -> list[str]:
    return [column.name for column in summary.columns]


def _ends(found: Estimate) -> tuple[float | str, float | str]:
    """Return the ends of the interval, empty for a single run."""
    return ("", "") if found.half is None else (found.mean - found.half, found.mean + found.half)


def _markdown_cell(words: str) -> str:
    return words.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def _latex_sections(summary: Summary) -> Iterable[str]:
    """Return the line of section headings, and the rules below them."""
    spanned, rules, start = [""] * (len(summary.keys) + 2), [], len(summary.keys) + 3
    for section, columns in sections(summary):
        spanned.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{tex(section or 'accuracy')}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    return [_latex_line(spanned), " ".join(rules)]


def _latex_line(words: Sequence[str]) -> str:
    return " & ".join(words) + r" \\"
