"""Log to MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from advunlearn.loggers.logger import LoggedRun, Logger, Tracker

SWEEP, FOLDER = "advunlearn.sweep", "advunlearn.folder"  # tags
MOST = 100  # params or metrics at once
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

    def open(self, run: LoggedRun) -> Tracker:
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

    def log(self, section: str, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._send({f"{section}/{name}": value for name, value in values.items()}, step)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """See `Tracker.finish`."""
        self._send(metrics, 0)

    def _send(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        sent = [Metric(name, value, now, step) for name, value in values.items()]
        for start in range(0, len(sent), MOST):
            self._client.log_batch(self.identity, metrics=sent[start : start + MOST])

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._client.set_terminated(self.identity, "FAILED" if failed else "FINISHED")
