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
    from advunlearn.report.summary.folders import SEARCH, find_runs
    from advunlearn.report.summary.formats import text
    from advunlearn.report.summary.page import write_overview
    from advunlearn.report.summary.runs import summarise
    from advunlearn.report.summary.search import read_search, search_text
    from advunlearn.runtime.terminal import table_width

    if (folder / SEARCH).is_file():
        sys.stdout.write(printable(f"\n{search_text(read_search(folder))}\n"))
    summary = summarise(find_runs([folder]))
    sys.stdout.write(printable(f"\n{text(summary, table_width())}\n\n"))
    try:
        where = write_overview(summary, folder)
    except OSError as error:
        where = f"{folder}: the report cannot be written ({error.strerror})"
    sys.stdout.write(printable(f"{where}\nagain: advunlearn report {folder}\n"))


def is_search(hydra: DictConfig) -> bool:
    """Return whether this config of Hydra's is of a search: a sweeper that chooses its runs by their objectives."""
    return not str(hydra.sweeper._target_).endswith(".BasicSweeper")


class SweepSummary(Callback):  # type: ignore[misc]
    """Hydra callback that prints the report of a sweep that a Hydra launcher ran."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the report when all jobs have ended; of a search, also what it chose."""
        if is_search(config.hydra):
            from advunlearn.report.summary.search import write_search

            write_search(Path(config.hydra.sweep.dir))
        print_sweep_report(Path(config.hydra.sweep.dir))
