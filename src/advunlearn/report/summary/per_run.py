"""The runs one by one: `runs.csv`, with the config and every number of each."""

from __future__ import annotations

import csv
import io
from typing import Any

from advunlearn.evaluation.names import MODELS
from advunlearn.report.summary.column_sets import every_column, retained_columns, two_model_columns
from advunlearn.report.summary.folders import Run
from advunlearn.report.summary.runs import Summary


def runs_csv(summary: Summary) -> str:
    """Return one line for each run, also of those without a result: state, options as in its config, and numbers.

    A number's column is named by model, metric and attack, such as `unlearned auc lira`. Numbers are not rounded.
    """
    runs = [*(run for group in summary.groups for run in group.runs), *summary.missing]
    rows = [_about(run) | _numbers(run, summary) for run in runs]
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, [*names], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().rstrip("\n")


def _about(run: Run) -> dict[str, Any]:
    return {"folder": run.folder, "state": run.state, "error": run.error, "finished": run.finished, **run.config}


def _numbers(run: Run, summary: Summary) -> dict[str, float]:
    if run.metrics is None:
        return {}
    found = {
        f"{model} {column.metric} {column.attack}".strip(): column.find(run.metrics, model)
        for model in MODELS
        for column in (*every_column(summary.attacks), *two_model_columns([run]), *retained_columns([run]))
    }
    return {name: value for name, value in found.items() if value is not None}
