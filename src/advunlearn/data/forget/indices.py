"""Forget the rows that a file names."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.scenario import Forget
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows
from advunlearn.storage.files import UnreadableFile, open_regular

LONGEST = 1000  # characters of a line


@dataclass
class Indices(Forget):
    """Forget the training rows listed in a text file, one row number per line, or one path of an image file.

    Blank lines and lines that begin with `#` are skipped. Rows are counted from 0 in the dataset's own training part,
    and are always among the training examples, whatever `dataset.train_size` is. Paths are relative to `dataset.root`.

    References:
        No publication.
    """

    path: str | None = None

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse a missing file, and a line in it that is not a row; see `Forget.problems`."""
        try:
            rows = self._read(info.names, info.train)
        except ValueError as error:
            return [str(error)]
        if len(rows) < train_size:
            return []
        return [
            f"path={self.path} names {len(rows)} rows to forget of {train_size} training examples: none would be left"
        ]

    def required_rows(self, names: Sequence[str] = ()) -> Rows:
        """Return the rows that the file names."""
        return self._read(names)

    def _read(self, names: Sequence[str], limit: int | None = None) -> Rows:
        if self.path is None:
            raise UserError("path must name a file with one row number a line (try forget.path=rows.txt)")
        row_of = {name: row for row, name in enumerate(names)}
        kinds = "a row number or the path of an image file" if names else "a row number"
        found: dict[int, int] = {}
        for number, text in self._lines():
            where = f"path={self.path} line {number}"
            if not text.isdecimal() and text not in row_of:
                raise UserError(f"{where} must be {kinds}, got {text[:40]}")
            row = row_of[text] if text in row_of else int(text)
            if limit is not None and row >= limit:
                raise UserError(f"{where} must be a row from 0 to {limit - 1}, got {row}")
            if row in found:
                raise UserError(f"{where} names row {row} again, which line {found[row]} did")
            found[row] = number
        if not found:
            raise UserError(f"path={self.path} names no row")
        return np.array(sorted(found), dtype=np.int64)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield number and text of each line that names a row; the file is read line by line."""
        try:
            with io.TextIOWrapper(open_regular(Path(str(self.path)).expanduser()), "utf-8-sig") as file:
                for number in itertools.count(1):
                    line = file.readline(LONGEST)
                    if not line:
                        return
                    if len(line) == LONGEST:
                        raise UserError(f"path={self.path} line {number} is longer than {LONGEST - 1} characters")
                    text = line.strip()
                    if text and not text.startswith("#"):
                        yield number, text
        except UnreadableFile as error:
            raise UserError(f"path={self.path} cannot be read: {error.reason}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UserError(f"path={self.path} cannot be read: {reason}") from error
