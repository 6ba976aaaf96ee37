"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

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


def printable(text: str) -> str:
    r"""Return lines whose control characters are shown as `\x1b`: no name or message in them controls a terminal."""
    return "\n".join(map(one_line, text.split("\n")))
