"""What of a summary a table for a paper shows: the columns and rows that a user chose, and the best of each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from advunlearn.evaluation.names import ModelName
from advunlearn.report.summary.column_sets import chosen_columns
from advunlearn.report.summary.columns import Column
from advunlearn.report.summary.methods import CONTROLS
from advunlearn.report.summary.runs import ModelRow, Summary
from advunlearn.report.summary.verdict import retrains, shown


def select(
    summary: Summary, metrics: Sequence[str] = (), models: Sequence[ModelName] = (), *, best: bool = False
) -> Summary:
    """Return the summary with these columns and rows alone, without columns whose numbers are all the same.

    Args:
        summary: of the runs.
        metrics: keys of `column_sets.METRICS`; none leaves the columns as they are.
        models: none leaves the rows as they are.
        best: mark the best number of each column.
    """
    rows = tuple(row for row in summary.rows if not models or row.model in models)
    wanted = chosen_columns(metrics, summary.attacks) if metrics else summary.columns
    columns = tuple(column for column in wanted if _varies(column, rows))
    return replace(summary, rows=rows, columns=columns, selected=True, best=best)


def _varies(column: Column, rows: Sequence[ModelRow]) -> bool:
    """Return whether a column has a number, and not the same one in each of several rows."""
    found = [shown(column.of(row.runs, row.model), column.digits) for row in rows]
    return any(found) and (len(found) < 2 or len(set(found)) > 1)


def best_rows(summary: Summary) -> list[set[int]]:
    """Return for each column the rows of the best unlearned models: those that are shown with the best number.

    `Column.wanted` tells what is best: for an attack to match the retrained model of the same seed, not to be low.
    Retraining itself and the other controls of a comparison take no part.
    """
    taking_part = [number for number, row in enumerate(summary.rows) if _takes_part(summary, row)]
    return [_best(column, summary.rows, taking_part) if summary.best else set() for column in summary.columns]


def _takes_part(summary: Summary, row: ModelRow) -> bool:
    control = summary.by_method and row.labels[0] in CONTROLS
    return row.model == "unlearned" and not control and not retrains(row.runs)


def _best(column: Column, rows: Sequence[ModelRow], taking_part: Sequence[int]) -> set[int]:
    losses = {number: column.loss(rows[number].runs) for number in taking_part}
    least = min(losses.values(), default=0.0)
    return {number for number, loss in losses.items() if round(loss - least, column.digits) == 0}
