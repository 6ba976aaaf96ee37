"""What the user asks of the output of a command: the width of its tables, and whether it reports its progress."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

FLAGS = {  # of every verb
    "--wide": "whole tables, whatever the width of the terminal",
    "--quiet": "only results, warnings and errors",
}


@dataclass
class Asked:
    """What the flags of this process's command ask for.

    Attributes:
        wide: print whole tables, whatever the width of the terminal.
        quiet: write results, warnings and errors only.
        command: the words that the user typed, quoted for a shell; empty in Python.
    """

    wide: bool = False
    quiet: bool = False
    command: str = ""


asked = Asked()


def table_width() -> int | None:
    """Return the columns that a table may have; None for any number.

    `COLUMNS` in the environment counts first, then the terminal; a pipe or a file takes any number.
    """
    if asked.wide:
        return None
    return shutil.get_terminal_size((0, 0)).columns or None


def remark(text: str) -> None:
    """Write lines to standard error, unless the user wants none."""
    if not asked.quiet:
        sys.stderr.write(text)
