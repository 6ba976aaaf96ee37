"""Log to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from advunlearn.loggers.logger import LoggedRun, Logger, Tracker


@dataclass
class TensorBoard(Logger):
    """Write TensorBoard's event files into the run's folder: `tensorboard --logdir outputs`.

    The folders group the runs of a sweep.

    References:
        No publication.
    """

    package: ClassVar[str | None] = "tensorboard"

    def start(self, run: LoggedRun) -> Tracker:
        """Open an event file; those of earlier attempts stay."""
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(run.folder), flush_secs=10)
        lines = [f"    {key}: {value}" for key, value in run.config.items()]  # Markdown: as it is
        writer.add_text("config", "\n".join(lines))
        writer.flush()
        return _Events(writer)


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{section}/{name}", value, step)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """See `Tracker.finish`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, 0)

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._writer.close()
