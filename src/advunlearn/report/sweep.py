"""What a sweep says at its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advunlearn.report.summary import find_runs, summarise


class SweepSummary(Callback):  # type: ignore[misc]
    """Hydra's callback that prints what `advunlearn report` says of a sweep's folder."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the means over seeds, grouped by what varies."""
        folder = Path(config.hydra.sweep.dir)
        sys.stdout.write(f"\n{summarise(find_runs([folder]))}\n\nagain: advunlearn report {folder}\n")
