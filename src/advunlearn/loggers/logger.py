"""Base class of loggers, and the loggers of a run as one: they change no result, and an error of theirs ends no run."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from advunlearn.evaluation.metrics_file import Metrics, Trace
from advunlearn.loggers.values import metric_values, trace_values
from advunlearn.options import Component
from advunlearn.runtime.curves import heard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told of a run when it begins.

    Attributes:
        folder: of the run.
        name: in a few words.
        group: of the runs of a sweep, the same for all of them; None for a single run.
        config: flat, plain values by key.
    """

    folder: Path
    name: str
    group: str | None
    config: dict[str, Any]


class Tracker(Protocol):
    """An open log of one run."""

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """Log values of a step: of a training (`train/original`), the game (`game`) or the judged epochs (`epochs`)."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the finished run, by name."""

    def close(self, *, failed: bool) -> None:
        """Close the log."""


class Logger(Component):
    """Base class of loggers.

    Attributes:
        package: what has to be installed; None for nothing.
    """

    group: ClassVar[str] = "logger"

    package: ClassVar[str | None] = None

    def missing(self) -> str | None:
        """Return the package that is not installed; None if nothing is missing."""
        package = self.package
        return package if package is not None and importlib.util.find_spec(package) is None else None

    def start(self, run: LoggedRun) -> Tracker:
        """Open the log of a run. In an interrupted run's folder it continues that of the earlier attempt."""
        raise NotImplementedError


class Trackers:
    """The open logs of a run. One that raises an error is left out from then on, with a warning."""

    def __init__(self, loggers: Mapping[str, Logger], run: LoggedRun) -> None:
        self._open: dict[str, Tracker] = {}
        for name, each in loggers.items():
            with self._guarded(name):
                self._open[name] = each.start(run)

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """Log values of a step; see `Tracker.log`."""
        self._each(lambda tracker: tracker.log(section, step, values))

    def trace(self, trace: Trace) -> None:
        """Log what the unlearner recorded."""
        for section, step, values in trace_values(trace):
            self.log(section, step, values)

    def finish(self, metrics: Metrics) -> None:
        """Log the metrics of the finished run."""
        self._each(lambda tracker: tracker.finish(dict(metric_values(metrics))))

    def close(self, *, failed: bool) -> None:
        """Close all logs."""
        self._each(lambda tracker: tracker.close(failed=failed))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            with self._guarded(name):
                call(tracker)

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # another package and its dependencies may raise any
            self._open.pop(name, None)
            words = " ".join(f"{type(error).__name__}: {error}".split())
            logger.warning("nothing more is logged to %s (%s)", name, words)


@contextlib.contextmanager
def tracked(loggers: Mapping[str, Logger], run: LoggedRun) -> Iterator[Trackers]:
    """Open the logs of a run, pass on the curves that are reported inside, and close them at the end."""
    trackers, failed = Trackers(loggers, run), True
    try:
        with heard(trackers.log):
            yield trackers
        failed = False
    finally:
        trackers.close(failed=failed)
