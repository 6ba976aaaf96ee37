"""Tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence

from advunlearn.options import one_line


def align(
    table: Sequence[Sequence[str]], right: Collection[int] = (), *, fold: int | None = None, width: int | None = None
) -> list[str]:
    """Return a line for each row of a table, its columns padded to the same width.

    Args:
        table: of rows with the same number of cells.
        right: the columns that are aligned to the right.
        fold: the column whose cells continue on further lines where the table is wider than `width`.
        width: in characters; None for any.
    """
    shown = [[one_line(cell) for cell in row] for row in table]
    if fold is not None and width is not None:
        shown = [line for row in shown for line in _folded(row, fold, _space(shown, fold, width))]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]

    def padded(column: int, cell: str) -> str:
        return cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])

    return ["  ".join(padded(*each) for each in enumerate(row)).rstrip() for row in shown]


def _space(table: Sequence[Sequence[str]], column: int, width: int) -> int:
    """Return how wide a column may be, so that the table has this width; at least 20."""
    others = sum(max(map(len, cells)) + 2 for at, cells in enumerate(zip(*table, strict=True)) if at != column)
    return max(width - others, 20)


def _folded(row: Sequence[str], column: int, width: int) -> list[list[str]]:
    """Return the row on as many lines as this cell needs; the other cells are on the first one."""
    parts = textwrap.wrap(row[column], width, break_on_hyphens=False) or [""]
    return [
        [part if at == column else cell if number == 0 else "" for at, cell in enumerate(row)]
        for number, part in enumerate(parts)
    ]


def wrapped(lines: Iterable[str], width: int | None) -> list[str]:
    """Return lines of at most this many columns, if words allow it; what continues a line is indented."""
    if width is None:
        return list(lines)
    fill = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in fill.wrap(line) or [""]]


def blocks(table: Sequence[Sequence[str]], first: int, width: int | None) -> list[str]:
    """Return the lines of a table, in several blocks below each other if it is wider than this.

    Args:
        table: of rows with the same number of cells.
        first: how many of the columns identify a row; every block begins with them.
        width: in characters; None for one block.
    """
    if width is None or not table:
        return align(table)
    widths = [max(len(one_line(cell)) for cell in column) + 2 for column in zip(*table, strict=True)]
    parts: list[list[int]] = [[]]
    for column in range(first, len(widths)):
        used = sum(widths[each] for each in [*range(first), *parts[-1]]) - 2
        if parts[-1] and used + widths[column] > width:
            parts.append([])
        parts[-1].append(column)
    rows = [[[row[each] for each in [*range(first), *part]] for row in table] for part in parts]
    return [line for number, part in enumerate(rows) for line in ([""] * (number > 0) + align(part))]


def printable(text: str) -> str:
    r"""Return lines whose control characters are shown as `\x1b`: no name or message in them controls a terminal."""
    return "\n".join(map(one_line, text.split("\n")))
