"""Log to MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from advunlearn.loggers.logger import LoggedRun, Logger, Tracker

SWEEP, FOLDER = "advunlearn.sweep", "advunlearn.folder"  # tags
MOST = 100  # params at once; of metrics, ten times as many
WAIT = 5  # seconds between two requests
LONGEST = 500  # characters of a param's value


@dataclass
class MLflow(Logger):
    """Log to an MLflow server or folder. The tag `advunlearn.sweep` groups the runs of a sweep.

    Attributes:
        uri: of the tracking server, or a folder; null: that of $MLFLOW_TRACKING_URI, or else the folder `mlruns`.
        experiment: the name of MLflow's experiment; it is made if it does not exist.

    References:
        No publication.
    """

    package: ClassVar[str | None] = "mlflow"

    uri: str | None = None
    experiment: str = "advunlearn"

    def start(self, run: LoggedRun) -> Tracker:
        """Begin a run, or continue that of an earlier attempt in the same folder."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
        if "://" not in uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else MLflow refuses folders
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found is not None else client.create_experiment(self.experiment)
        folder = str(run.folder.absolute())
        earlier = client.search_runs([experiment], f"tags.`{FOLDER}` = '{folder}'", max_results=1)
        if earlier:
            client.update_run(earlier[0].info.run_id, status="RUNNING")
            return _Run(client, earlier[0].info.run_id)
        tags = {FOLDER: folder, **({SWEEP: run.group} if run.group is not None else {})}
        made = _Run(client, client.create_run(experiment, run_name=run.name, tags=tags).info.run_id)
        params = [Param(key, str(value)[:LONGEST]) for key, value in run.config.items()]
        for start in range(0, len(params), MOST):
            client.log_batch(made.identity, params=params[start : start + MOST])
        return made


class _Run:
    def __init__(self, client: Any, identity: str) -> None:
        self._client, self.identity = client, identity
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._add({f"{section}/{name}": value for name, value in values.items()}, step)
        if time.monotonic() - self._sent > WAIT:
            self._send()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """See `Tracker.finish`; a metric is a file, so that none may be named as the folder of another."""
        self._add({_file_name(name): value for name, value in metrics.items()}, 0)

    def _add(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values.items()]

    def _send(self) -> None:
        for start in range(0, len(self._waiting), 10 * MOST):
            self._client.log_batch(self.identity, metrics=self._waiting[start : start + 10 * MOST])
        self._waiting, self._sent = [], time.monotonic()

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._send()
        self._client.set_terminated(self.identity, "FAILED" if failed else "FINISHED")


def _file_name(name: str) -> str:
    """Return `original/auc_lira.online` for `original/auc_lira/online`."""
    section, _, rest = name.partition("/")
    return f"{section}/{rest.replace('/', '.')}"
