"""The columns of a summary for attacks on the unlearning algorithm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from advunlearn.evaluation.attack_metrics import is_tenth, question_in_words
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import ModelName
from advunlearn.report.summary.columns import Column
from advunlearn.report.summary.folders import Run

AlgorithmNumber = Literal["auc", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05"]


def algorithm_columns(runs: Iterable[Run]) -> list[Column]:
    """Return the columns of each question, such as `efficacy`, of the attacks on the unlearner that these runs have."""
    found = [run.metrics.get("algorithm", {}) for run in runs if run.metrics is not None]
    names = dict.fromkeys((attack, question) for each in found for attack, asked in each.items() for question in asked)
    columns = [of_question(attack, question, "auc") for attack, question in names]
    rates: tuple[AlgorithmNumber, ...] = ("tpr_at_fpr_0.01", "tpr_at_fpr_0.05")
    return columns + [of_question(attack, question, rate) for rate in rates for attack, question in names]


def of_question(attack: str, question: str, number: AlgorithmNumber) -> Column:
    """Return the column of one number of a question; a terminal shows the AUC over all forgotten examples alone."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics.get("algorithm", {}).get(attack, {}).get(question, {}).get(model)
        return None if found is None else found.get(number)  # older files lack the rates

    section = {"auc": "AUC", "tpr_at_fpr_0.01": "TPR at 1% FPR", "tpr_at_fpr_0.05": "TPR at 5% FPR"}[number]
    name, shown = question_in_words(question), number == "auc" and not is_tenth(question)
    return Column(f"{attack} {section}", name, f"{question}_{number}", attack, find, terminal=shown)
