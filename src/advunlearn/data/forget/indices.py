"""Forget the rows that a file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advunlearn.data.dataset import DatasetInfo
from advunlearn.data.forget.scenario import Forget, Rows
from advunlearn.options import UserError


@dataclass
class Indices(Forget):
    """Forget the training rows listed in a text file, one number per line.

    Blank lines and lines that begin with `#` are skipped. Rows are counted from 0 in the dataset's own training part,
    and are among the training examples whatever its train_size.

    References:
        No publication.
    """

    path: str | None = None

    def problems(self, info: DatasetInfo, train_size: int) -> list[str]:
        """Refuse a missing file, and a line in it that is not a row; see `Forget.problems`."""
        try:
            rows = self._read(info.train)
        except ValueError as error:
            return [str(error)]
        if len(rows) < train_size:
            return []
        return [
            f"path={self.path} names {len(rows)} rows to forget of {train_size} training examples: none would be left"
        ]

    def required_rows(self) -> Rows:
        """Return the rows that the file names."""
        return self._read(None)

    def select(self, rows: Rows, labels: Rows, rng: np.random.Generator) -> Rows:
        """Return the rows that the file names."""
        return self._read(None)

    def _read(self, limit: int | None) -> Rows:
        if self.path is None:
            raise UserError("path must name a file with one row number a line (try forget.path=rows.txt)")
        try:
            lines = Path(self.path).expanduser().read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UserError(f"path={self.path} cannot be read: {reason}") from error
        found: dict[int, int] = {}
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            where = f"path={self.path} line {number}"
            if not text.isdecimal():
                raise UserError(f"{where} must be a row number, got {text[:40]}")
            row = int(text)
            if limit is not None and row >= limit:
                raise UserError(f"{where} must be a row from 0 to {limit - 1}, got {row}")
            if row in found:
                raise UserError(f"{where} names row {row} again, which line {found[row]} did")
            found[row] = number
        if not found:
            raise UserError(f"path={self.path} names no row")
        return np.array(sorted(found), dtype=np.int64)
