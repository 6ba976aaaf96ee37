"""The standard streams of a command: a missing reader, a closed stream or a locale does not end it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Tolerant:
    r"""A text stream that drops text without a reader, and escapes letters that its encoding lacks, as `\xb1`.

    Attributes:
        error: why text was lost; None if nothing was lost, or if only the reader is gone, as after `| head`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._open = stream, True
        self.error: str | None = None

    def write(self, text: str) -> int:
        """Write text, or drop it if there is no reader."""
        if self._open:
            with self._tolerance():
                self._stream.write(self._encodable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Flush the stream."""
        if self._open:
            with self._tolerance():
                self._stream.flush()

    def _encodable(self, text: str) -> str:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    @contextlib.contextmanager
    def _tolerance(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._drop()
        except (OSError, ValueError) as error:  # a full disk, a closed terminal; a closed file
            self.error = getattr(error, "strerror", None) or str(error)
            self._drop()

    def _drop(self) -> None:
        """Redirect the stream to the null device: its buffer would raise again when Python ends."""
        self._open = False
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        """Return all other attributes of the stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[Tolerant]:
    """Replace standard output, which is yielded, and standard error by `Tolerant` streams."""
    _open_closed()
    before = sys.stdout, sys.stderr
    streams = Tolerant(before[0]), Tolerant(before[1])
    sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", streams)
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Replace a standard stream that the caller has closed (`>&-`): the next open file would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
