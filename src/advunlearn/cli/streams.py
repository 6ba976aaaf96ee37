"""The standard streams of a command: a reader that is gone, a closed stream or a locale never ends it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Tolerant:
    r"""A text stream that drops what can no longer be written, and shows what its encoding lacks as `\xb1`.

    Attributes:
        error: why something was lost; None while all was written, and if only the reader is gone, as after `| head`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._open = stream, True
        self.error: str | None = None

    def write(self, text: str) -> int:
        """Write text, if somebody can still read it."""
        if self._open:
            with self._tolerance():
                self._stream.write(self._encodable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand to the system what was written."""
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
        """Lead the stream nowhere: what it still holds would raise again when Python ends."""
        self._open = False
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        """Return everything else of the stream itself."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[Tolerant]:
    """Inside, let standard output, which is returned, and standard error be `Tolerant` streams."""
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
    """Replace a standard stream that the caller has closed (`>&-`): the next file to be opened would get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
