"""Numbers of attacks: precision at a threshold of shadow models, and what was asked of the unlearning algorithm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from advunlearn.evaluation.attack_metrics import AttackMetrics, Questions, is_tenth, question_in_words
from advunlearn.evaluation.comparison import primary
from advunlearn.evaluation.metrics_file import Metrics, ModelMetrics
from advunlearn.evaluation.names import MODELS
from advunlearn.report.run.further import MATCH, Numbers

# The rows at a threshold of shadow models: their sections, and the keys of `OperatingPoint`.
PRECISION = {
    "precision, prior 1%": "precision_at_prior_0.01",
    "precision, prior 10%": "precision_at_prior_0.1",
    "precision, prior 50%": "precision_at_prior_0.5",
    "FPR at its threshold": "fpr",
}


def precisions(models: Sequence[ModelMetrics]) -> Iterator[Numbers]:
    """Yield the precision of attacks with a threshold of shadow models, and the false-positive rate that it has."""
    attacks = models[0]["attacks"]
    for section, key in PRECISION.items():
        for name in primary(attacks):
            found = [m["attacks"][name]["operating"] for m in models if "operating" in m["attacks"][name]]
            if len(found) == len(models):
                about = f"{attacked(attacks[name])}, which choose it"
                yield section, name, [with_ends(each, key) for each in found], MATCH, about


def algorithm_numbers(metrics: Metrics) -> Iterator[Numbers]:
    """Yield the AUC of each question; of those that are asked of all forgotten examples, also the rates."""
    for attack, questions in metrics.get("algorithm", {}).items():
        whole = {question: found for question, found in questions.items() if not is_tenth(question)}
        yield from _asked(f"{attack}, algorithm", questions, "auc")
        for percent in (1, 5):
            key = f"tpr_at_fpr_{percent / 100}"
            if all(key in found[name] for found in whole.values() for name in MODELS):  # older files lack it
                yield from _asked(f"{attack}, TPR at {percent}% FPR", whole, key)


def with_ends(found: Any, key: str) -> tuple[float, ...]:
    """Return a number of a dictionary, NaN for None, with the ends of its interval."""
    return math.nan if found[key] is None else found[key], found[f"{key}_low"], found[f"{key}_high"]


def attacked(found: AttackMetrics) -> str:
    """Return what an attack was computed on."""
    shadows = f", {found['shadows']} shadows" if found["shadows"] else ""
    return f"{found['members']} forget, {found['nonmembers']} test{shadows}"


def _asked(section: str, questions: Questions, key: str) -> Iterator[Numbers]:
    for question, found in questions.items():
        about = found["unlearned"]
        on = f"{about['originals']} originals, {about['scores']} forgotten"
        yield section, question_in_words(question), [with_ends(found[name], key) for name in MODELS], MATCH, on
