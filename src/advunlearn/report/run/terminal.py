"""The table of a run for a terminal, without the columns and rows that do not fit its width."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

from advunlearn.evaluation.metrics_file import Metrics, ModelMetrics
from advunlearn.evaluation.names import MODELS
from advunlearn.options import one_line
from advunlearn.report.plain_text import align, wrapped
from advunlearn.report.run.further import MATCH
from advunlearn.report.run.table import MetricRow, attack_notes, model_rows, notes, rows

NARROW = ("", *MODELS, "gap")
WIDE = ("", "", *MODELS, "gap", "wanted", "computed on")
Shown = tuple[list[str], str]  # the lines of a table, and what is not in it


def comparison_table(metrics: Metrics, width: int | None = None) -> str:
    """Return the three models side by side, then times and notes.

    Args:
        metrics: of a run.
        width: columns of the terminal; None for the whole table. Too narrow for it, the table has one heading for each
            group of rows, and leaves out first what each number was computed on, then the variants of attacks and the
            direction, then the intervals.
    """
    shown = rows(metrics)
    whole = _table(WIDE, [(*row.values, row.gap, row.wanted, row.on) for row in shown], shown, range(2, 6))
    lines, left_out = _fitting([(whole, ""), *_narrower(shown)], width)
    remarks = [*notes(metrics), *([f"--wide prints {left_out}"] if left_out else [])]
    if "wanted" not in lines[0]:
        remarks.insert(0, "wanted: as retrained, but for what should be (higher)")
    return "\n".join([*lines, *wrapped(map(one_line, remarks), width)])


def model_table(found: ModelMetrics, width: int | None = None) -> str:
    """Return the table of one model; see `comparison_table`."""
    shown = model_rows(found)
    whole = _table(("", "", "model", "computed on"), [(*row.values, row.on) for row in shown], shown, (2,))
    narrow = _grouped(("", "model"), shown, [row.values for row in shown]), "what each number was computed on"
    lines, left_out = _fitting([(whole, ""), narrow], width)
    remarks = [*attack_notes(found), *([f"--wide prints {left_out}"] if left_out else [])]
    return "\n".join([*lines, *wrapped(map(one_line, remarks), width)])


def _fitting(tables: Sequence[Shown], width: int | None) -> Shown:
    """Return the first table that fits, of tables from the widest to the narrowest; else the last one."""
    return next((table for table in tables if width is None or max(map(len, table[0])) <= width), tables[-1])


def _narrower(shown: Sequence[MetricRow]) -> Iterator[Shown]:
    """Yield ever narrower tables of these rows, and what each leaves out."""
    yield (
        _grouped(("", *MODELS, "gap", "wanted"), shown, [(*row.values, row.gap, row.wanted) for row in shown]),
        "what each number was computed on",
    )
    main = [row for row in shown if "/" not in row.name and " " not in row.name.removeprefix("request ")]
    count = f"what each number was computed on, and {len(shown) - len(main)} further rows"
    yield _grouped(NARROW, main, [(*row.values, row.gap) for row in main]), count
    values = [(*(value.partition(" ")[0] for value in row.values), row.gap) for row in main]
    yield _grouped(NARROW, main, values), f"intervals, {count}"


def _table(
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    shown: Sequence[MetricRow],
    right: Collection[int],
) -> list[str]:
    """Return the lines of a table whose rows begin with section, where it changes, and name."""
    sections = ["", *(row.section for row in shown)]
    starts = [row.section if row.section != before else "" for row, before in zip(shown, sections, strict=False)]
    lines = [(start, row.name, *rest) for start, row, rest in zip(starts, shown, cells, strict=True)]
    return _ruled(align([headings, *lines], right))


def _grouped(headings: Sequence[str], shown: Sequence[MetricRow], cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in which a section is a line of its own, above its rows."""
    rest = len(headings) - 1
    lines: list[list[str]] = []
    for section, group in itertools.groupby(zip(shown, cells, strict=True), lambda pair: pair[0].section):
        lines.append([section, *[""] * rest])
        lines += [[f"  {_name(row, headings)}", *values] for row, values in group]
    return _ruled(align([headings, *lines], range(1, rest + 1 - ("wanted" in headings))))


def _name(row: MetricRow, headings: Sequence[str]) -> str:
    """Return the name of a row, with its direction if it is another than the heading tells."""
    return row.name if "wanted" in headings or row.wanted == MATCH else f"{row.name} ({row.wanted})"


def _ruled(lines: Sequence[str]) -> list[str]:
    """Return the lines with a rule below the headings, and at the end."""
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:], rule]
