"""What a sweep says at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advunlearn.report.formats import text
from advunlearn.report.overview import write_overview
from advunlearn.report.summary import find_runs, summarise


class SweepSummary(Callback):  # type: ignore[misc]
    """Hydra's callback that does what `advunlearn report` does with a sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the means over seeds, grouped by what varies, and write them and their pictures beside the runs."""
        folder = Path(config.hydra.sweep.dir)
        summary = summarise(find_runs([folder]))
        sys.stdout.write(f"\n{text(summary)}\n\n")
        sys.stdout.write(f"{write_overview(summary, folder)}\nagain: advunlearn report {folder}\n")
