"""What a sweep says at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advunlearn.report.summary.formats import text
from advunlearn.report.summary.page import write_overview
from advunlearn.report.summary.runs import find_runs, summarise


def tell_of_sweep(folder: Path) -> None:
    """Print the means over seeds, grouped by what varies, and write them and their pictures beside the runs."""
    summary = summarise(find_runs([folder]))
    sys.stdout.write(f"\n{text(summary)}\n\n{write_overview(summary, folder)}\nagain: advunlearn report {folder}\n")


class SweepSummary(Callback):  # type: ignore[misc]
    """Hydra's callback that does so for the sweep of one of its launchers."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Tell of the sweep."""
        tell_of_sweep(Path(config.hydra.sweep.dir))
