"""Which columns a summary has: by default, and those that a user can choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from advunlearn.evaluation.comparison import primary
from advunlearn.report.summary.algorithm import algorithm_columns, of_question
from advunlearn.report.summary.columns import (
    AVERAGE_GAP,
    POSITIVE,
    PRIORS,
    SHOWN_PARTS,
    TOW,
    TOW_MIA,
    Column,
    accuracy,
    auc,
    gap,
    of_attack,
    precision,
    time_over_retraining,
)
from advunlearn.report.summary.folders import Run
from advunlearn.report.summary.further_columns import further_columns, of_retained


def default_columns(runs: Sequence[Run], attacks: Sequence[str], *, methods: bool) -> list[Column]:
    """Return the columns of finished runs that are judged by these attacks; of a comparison of methods if so."""
    judged = [AVERAGE_GAP, TOW, TOW_MIA] if methods else []
    found = [
        *map(accuracy, SHOWN_PARTS),
        *([] if methods else (_of_judged(attack, "auc") for attack in attacks)),
        *map(gap, attacks),
        *judged,
        time_over_retraining("unlearning"),
        time_over_retraining("references"),
        *further_columns(),
        *two_model_columns(runs),
        *algorithm_columns(runs),
        *retained_columns(runs),
    ]
    return _once(found)


def two_model_columns(runs: Iterable[Run]) -> list[Column]:
    """Return the AUC of each attack that these runs have and that compares two models, so that it has no gap."""
    found = [run.metrics for run in runs if run.metrics is not None]
    names = (
        name
        for each in found
        for name in primary(each["models"]["unlearned"]["attacks"])
        if name not in each["gap"]["unlearned"]["attacks"]
    )
    return [auc(name) for name in dict.fromkeys(names)]


def retained_columns(runs: Iterable[Run]) -> list[Column]:
    """Return the AUC on retained examples of each attack for which these runs have it."""
    found = [run.metrics.get("retained") for run in runs if run.metrics is not None]
    names = dict.fromkeys(name for each in found if each is not None for name in each["models"]["unlearned"])
    return [of_retained(name) for name in names]


# The columns that a user can choose, by what is typed, for the attacks of the runs.
METRICS: dict[str, Callable[[Sequence[str]], list[Column]]] = {
    "accuracy": lambda attacks: [accuracy(part) for part in SHOWN_PARTS],
    "accuracy_test": lambda attacks: [accuracy("test")],
    "accuracy_forget": lambda attacks: [accuracy("forget")],
    "accuracy_retain": lambda attacks: [accuracy("retain")],
    "auc": lambda attacks: [_of_judged(attack, "auc") for attack in attacks],
    "gap": lambda attacks: [gap(attack) for attack in attacks],
    "tpr@0.01": lambda attacks: [_of_judged(attack, "tpr_at_fpr_0.01") for attack in attacks],
    "tpr@0.001": lambda attacks: [of_attack("TPR at 0.1% FPR", "tpr_at_fpr_0.001", attack) for attack in attacks],
    "balanced_accuracy": lambda attacks: [
        of_attack("balanced accuracy", "balanced_accuracy", attack) for attack in attacks
    ],
    "epsilon": lambda attacks: [of_attack("epsilon at least", "epsilon_low", attack, POSITIVE) for attack in attacks],
    "precision": lambda attacks: [precision(prior, attack) for prior in PRIORS for attack in attacks],
    "average_gap": lambda attacks: [AVERAGE_GAP],
    "tow": lambda attacks: [TOW],
    "tow_mia": lambda attacks: [TOW_MIA],
    "time": lambda attacks: [time_over_retraining("unlearning")],
}


def chosen_columns(metrics: Iterable[str], attacks: Sequence[str]) -> list[Column]:
    """Return the columns of these keys of `METRICS`, each once, in their order."""
    return _once(column for name in metrics for column in METRICS[name](attacks))


def every_column(attacks: Sequence[str]) -> list[Column]:
    """Return all columns that there are."""
    return [*chosen_columns(METRICS, attacks), time_over_retraining("references"), *further_columns()]


def _of_judged(judged: str, number: Literal["auc", "tpr_at_fpr_0.01"]) -> Column:
    """Return the column of one number of an attack, or of its question on the algorithm; see `gaps_of`."""
    attack, _, question = judged.partition(" ")
    if question:
        return of_question(attack, question, number)
    return auc(attack) if number == "auc" else of_attack("TPR at 1% FPR", number, attack)


def _once(columns: Iterable[Column]) -> list[Column]:
    """Return each number once, where it comes first."""
    return list({(column.metric, column.attack): column for column in columns}.values())
