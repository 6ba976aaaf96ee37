"""The report that a sweep prints when it ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advunlearn.report.plain_text import printable


def print_sweep_report(folder: Path) -> None:
    """Print the means over seeds, grouped by what varies, and write the report of a sweep into its folder.

    The runs are done: if the report cannot be written, a line tells so, and nothing else changes.
    """
    # Not above: Hydra imports this file for `--help` and for each run as well.
    from advunlearn.report.summary.folders import find_runs
    from advunlearn.report.summary.formats import text
    from advunlearn.report.summary.page import write_overview
    from advunlearn.report.summary.runs import summarise
    from advunlearn.runtime.terminal import table_width

    summary = summarise(find_runs([folder]))
    sys.stdout.write(printable(f"\n{text(summary, table_width())}\n\n"))
    try:
        where = write_overview(summary, folder)
    except OSError as error:
        where = f"{folder}: the report cannot be written ({error.strerror})"
    sys.stdout.write(printable(f"{where}\nagain: advunlearn report {folder}\n"))


class SweepSummary(Callback):  # type: ignore[misc]
    """Hydra callback that prints the report of a sweep that a Hydra launcher ran."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the report when all jobs have ended."""
        print_sweep_report(Path(config.hydra.sweep.dir))
