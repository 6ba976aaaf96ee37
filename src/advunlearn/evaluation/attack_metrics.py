"""The numbers of attacks in `metrics.json`: on one model, and on an unlearning algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from advunlearn.evaluation.names import ModelName

TENTH = "_tenth"  # the suffix of questions that are asked of the most vulnerable tenth of the forgotten examples


# What `metrics.roc` returns: how well scores tell members (forget examples) from non-members (test examples).
RocMetrics = TypedDict(
    "RocMetrics",
    {
        # Probability in [0, 1] that a member scores higher than a non-member, ties counting half, with its 95 %
        # interval and how that was made. 0.5: the attack cannot tell. Far below 0.5 is as much a leak as far above.
        "auc": float,
        "auc_low": float,
        "auc_high": float,
        "interval": str,
        # |auc - 0.5|, in [0, 0.5].
        "auc_distance": float,
        # Lower bound of epsilon, at least 0; see `metrics.epsilon_lower_bound`: an indicator, not a certificate.
        "epsilon_low": float,
        # (TPR + TNR) / 2 in [0, 1]; thresholds are chosen on one half of the examples and judged on the other.
        "balanced_accuracy": float,
        # How many examples were scored; excluded: how many had no score.
        "members": int,
        "nonmembers": int,
        "excluded": int,
        # The largest true-positive rate in [0, 1] at a false-positive rate of at most 1 %, with its 95 % interval
        # (Clopper-Pearson) and the counts of true and false positives that it comes from; then the same at 0.1 %.
        "tpr_at_fpr_0.01": float,
        "tpr_at_fpr_0.01_low": float,
        "tpr_at_fpr_0.01_high": float,
        "tpr_at_fpr_0.01_count": int,
        "tpr_at_fpr_0.01_false_positives": int,
        "tpr_at_fpr_0.001": float,
        "tpr_at_fpr_0.001_low": float,
        "tpr_at_fpr_0.001_high": float,
        "tpr_at_fpr_0.001_count": int,
        "tpr_at_fpr_0.001_false_positives": int,
        # Which of these numbers so few examples cannot support, in words; empty if none.
        "note": str,
    },
)


class Threshold(TypedDict):
    """A threshold of member scores, chosen by shadow models in the place of the target; see `operating.threshold_of`.

    Attributes:
        value: scores above it are called members.
        models, scores: how many shadow models chose it, by how many scores of non-members.
    """

    value: float
    models: int
    scores: int


# How an attack does at a threshold that shadow models have chosen; see `operating.operating_point`.
OperatingPoint = TypedDict(
    "OperatingPoint",
    {
        # As in `Threshold`.
        "threshold": float,
        "models": int,
        "scores": int,
        # The rates of forget and of test examples above it, in [0, 1], with their 95 % intervals (Clopper-Pearson).
        "tpr": float,
        "tpr_low": float,
        "tpr_high": float,
        "fpr": float,
        "fpr_low": float,
        "fpr_high": float,
        # The share of members among the examples that are called members, where this share of all examples are
        # members, with its interval. None if no example is called a member.
        "precision_at_prior_0.01": float | None,
        "precision_at_prior_0.01_low": float,
        "precision_at_prior_0.01_high": float,
        "precision_at_prior_0.1": float | None,
        "precision_at_prior_0.1_low": float,
        "precision_at_prior_0.1_high": float,
        "precision_at_prior_0.5": float | None,
        "precision_at_prior_0.5_low": float,
        "precision_at_prior_0.5_high": float,
    },
)


class _AttackAddedLater(TypedDict, total=False):
    operating: OperatingPoint


class AttackMetrics(RocMetrics, _AttackAddedLater):
    """One attack on one model.

    Attributes:
        operating: of the primary score of an attack with shadow models. Older files lack it.
        shadows: how many shadow models, or shadow originals, the attack compares with; 0 if it uses none.
        figures: what else the attack's paper reports, by name; see `Attack.figures`.
    """

    shadows: int
    figures: dict[str, float]


# The largest true-positive rates in [0, 1] at false-positive rates of at most 1 % and 5 %, with their 95 % intervals,
# over the scores of many models; see `over_models.tpr_over_models`. Older files lack them.
AlgorithmRates = TypedDict(
    "AlgorithmRates",
    {
        "tpr_at_fpr_0.01": float,
        "tpr_at_fpr_0.01_low": float,
        "tpr_at_fpr_0.01_high": float,
        "tpr_at_fpr_0.05": float,
        "tpr_at_fpr_0.05_low": float,
        "tpr_at_fpr_0.05_high": float,
    },
    total=False,
)


class AlgorithmMetrics(AlgorithmRates):
    """How well an attack tells models that an algorithm made from others; see `Attack.audit`.

    Attributes:
        auc, auc_low, auc_high, interval: as in `RocMetrics`, over the scores of many models.
        originals: how many shadow originals were unlearned.
        scores: how many scores, over all of them, of examples that they forgot.
    """

    auc: float
    auc_low: float
    auc_high: float
    interval: str
    originals: int
    scores: int


# The numbers of each question that an attack asks of an algorithm, by question and model.
Questions = Mapping[str, Mapping[ModelName, AlgorithmMetrics]]


def asked_name(attack: str, question: str) -> str:
    """Return the name of an attack's question on the algorithm, beside the names of attacks on one model."""
    return f"{attack} {question}"


def is_tenth(question: str) -> bool:
    """Return whether a question on the algorithm is asked of the most vulnerable tenth of the forgotten examples."""
    return question.endswith(TENTH)


def question_in_words(question: str) -> str:
    """Return the name of a question on the algorithm, for a table."""
    return f"{question.removesuffix(TENTH)}, worst tenth" if is_tenth(question) else question
