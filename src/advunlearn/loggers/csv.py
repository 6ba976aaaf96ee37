"""Log to a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from advunlearn.loggers.logger import LoggedRun, Logger, Tracker

FILE = "curves.csv"


@dataclass
class CSV(Logger):
    """Write `curves.csv` into the run's folder: name, step and value in each line; metrics have no step.

    The config is in `config.yaml` next to it.

    References:
        No publication.
    """

    def start(self, run: LoggedRun) -> Tracker:
        """Open the file, after the lines of earlier attempts."""
        path = run.folder / FILE
        new = not path.exists()
        lines = _Lines(path.open("a", encoding="utf-8", newline="", buffering=1))
        if new:
            lines.write("name", "step", "value")
        return lines


class _Lines:
    def __init__(self, file: TextIO) -> None:
        self._file, self._writer = file, csv.writer(file, lineterminator="\n")

    def write(self, *cells: object) -> None:
        self._writer.writerow(cells)

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in values.items():
            self.write(f"{section}/{name}", step, value)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """See `Tracker.finish`."""
        for name, value in metrics.items():
            self.write(name, "", value)

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._file.close()
