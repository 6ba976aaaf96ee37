"""How the command line reports errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from advunlearn.options import one_line
from advunlearn.report.plain_text import printable


class RunFailed(Exception):
    """A run ended by an exception that is not a `UserError`; the message is one line, `status` the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def print_text(text: str) -> None:
    """Print lines to standard output; control characters in names and messages are escaped."""
    sys.stdout.write(printable(text))


def refuse(problems: Sequence[str]) -> int:
    """Print each mistake in the command in one line, and return exit status 2."""
    _print_errors(problems)
    return 2


def fail(error: object, status: int | None = None) -> int:
    """Print in one line why the work could not be done, and return the exit status: that of the error, else 1."""
    _print_errors([in_words(error)])
    return status or int(getattr(error, "status", 1))


def in_words(error: object) -> str:
    """Return the message of an error; of the system's errors without their number, of a full disk with advice."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    folders = Path(os.fsdecode(error.filename)).absolute().parents if error.filename else ()
    where = next((folder for folder in folders if folder.exists()), "the disk")  # drafts are gone by now
    why = " (your quota)" if error.errno == errno.EDQUOT else ""
    return f"no space left on {where}{why}; free some (advunlearn store prune), and repeat the command"


def _print_errors(problems: Sequence[str]) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {one_line(problem)}\n")
