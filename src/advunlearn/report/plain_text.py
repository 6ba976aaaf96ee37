"""Tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence

from advunlearn.options import one_line


def align(table: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return a line for each row of a table, its columns padded to the same width.

    Args:
        table: of rows with the same number of cells.
        right: the columns that are aligned to the right.
    """
    shown = [[one_line(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]

    def padded(column: int, cell: str) -> str:
        return cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])

    return ["  ".join(padded(*each) for each in enumerate(row)).rstrip() for row in shown]


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
