"""Log lines in which control characters are escaped: no message controls a terminal or forges another line."""

from __future__ import annotations

import logging
from types import TracebackType

from advunlearn.options import one_line
from advunlearn.runtime.terminal import asked

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PlainFormatter(logging.Formatter):
    r"""Format a record as one line, and its traceback as lines, with control characters in the form `\x1b`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: ExceptionInfo) -> str:
        """Return the lines of a traceback."""
        return "\n".join(map(one_line, super().formatException(ei).split("\n")))


def log_to_terminal(*, warnings_only: bool = False) -> None:
    """Log to standard error, unless the logging is already configured; only warnings for `--quiet` as well."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if warnings_only or asked.quiet:
        handler.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, handlers=[handler])  # a run's own log has every line
