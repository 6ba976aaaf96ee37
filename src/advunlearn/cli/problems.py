"""How the command line reports errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advunlearn.options import one_line
from advunlearn.report.plain_text import printable

if TYPE_CHECKING:
    from advunlearn.runtime.workers import ShortOfMemory


class RunFailed(Exception):
    """A run ended by an exception that is no `UserError`: a bug, whose traceback is in the run's log.

    Attributes:
        status: the exit status of the command.
    """

    status = 1

    def __init__(self, error: Exception, folder: Path) -> None:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        super().__init__(f"{words} (traceback in {folder / 'advunlearn.log'})")


class RunStopped(RunFailed):
    """A run ended because its workers ran out of memory: resumed, it has fewer of them."""

    def __init__(self, error: ShortOfMemory, folder: Path) -> None:
        self.status = error.status
        Exception.__init__(self, f"{error}; advunlearn resume {folder} continues with workers={error.fewer}")


def say(text: str) -> None:
    """Print lines to standard output; control characters in names and messages are shown, and not sent."""
    sys.stdout.write(printable(text))


def refuse(problems: Sequence[str]) -> int:
    """Print each mistake in the command in one line, and return exit status 2."""
    _say(problems)
    return 2


def fail(error: object, status: int | None = None) -> int:
    """Print in one line why the work could not be done, and return the exit status: that of the error, else 1."""
    _say([in_words(error)])
    return status or int(getattr(error, "status", 1))


def in_words(error: object) -> str:
    """Return what went wrong, for the system's errors without their number; a full disk with what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    folders = Path(os.fsdecode(error.filename)).absolute().parents if error.filename else ()
    where = next((folder for folder in folders if folder.exists()), "the disk")  # drafts are gone by now
    why = " (your quota)" if error.errno == errno.EDQUOT else ""
    return f"no space left on {where}{why}; free some (advunlearn store prune), and repeat the command"


def _say(problems: Sequence[str]) -> None:
    for problem in problems:
        sys.stderr.write(f"error: {one_line(problem)}\n")
