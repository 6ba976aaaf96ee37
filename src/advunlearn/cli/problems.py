"""How the command line says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def refuse(problems: Sequence[str]) -> int:
    """Say each mistake in what was typed in one line and return exit status 2."""
    _say(problems)
    return 2


def fail(error: object) -> int:
    """Say in one line why the work could not be done and return exit status 1."""
    _say([str(error)])
    return 1


def _say(problems: Sequence[str]) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
