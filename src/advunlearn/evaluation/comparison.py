"""The three models side by side.

SciPy and scikit-learn are imported to measure, not to read what was measured.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from advunlearn.evaluation.attack_metrics import (
    AlgorithmMetrics,
    AttackMetrics,
    Questions,
    Threshold,
    asked_name,
    is_tenth,
)
from advunlearn.evaluation.metrics_file import Gap, Metrics, ModelMetrics
from advunlearn.evaluation.names import ComparedName, PartName


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the share of examples whose largest of the logits (n, c) is their label's."""
    return float((logits.argmax(axis=-1) == labels).mean())


def measure_attack(
    scores: NDArray[np.float64],
    members: NDArray[np.bool_],
    *,
    seed: int,
    cross_fitted: bool,
    shadows: int = 0,
    figures: Mapping[str, float] | None = None,
    threshold: Threshold | None = None,
) -> AttackMetrics:
    """Return everything that is reported of one attack on one model.

    Args:
        scores, members: (n,), member scores of forget and test examples and which are which.
        seed: of the random halves on which thresholds are chosen.
        cross_fitted: whether each score comes from a fit on other examples of the n.
        shadows: how many shadow models the attack used.
        figures: what it reports besides its scores, by name.
        threshold: that shadow models have chosen, if there is one.
    """
    from advunlearn.evaluation.metrics import roc
    from advunlearn.evaluation.operating import operating_point

    found = roc(scores, members, seed=seed, cross_fitted=cross_fitted)
    measured = cast("AttackMetrics", {**found, "shadows": shadows, "figures": dict(figures or {})})
    if threshold is not None:
        measured["operating"] = operating_point(scores, members, threshold)
    return measured


def measure(
    accuracies: Mapping[PartName, float],
    examples: Mapping[PartName, int],
    losses: NDArray[np.float64],
    members: NDArray[np.bool_],
    attacks: dict[str, AttackMetrics],
) -> ModelMetrics:
    """Return everything that is reported of one model.

    Args:
        accuracies, examples: by name of the part of the data, what share of how many is classified correctly.
        losses, members: (n,), the losses of forget and test examples and which are which.
        attacks: what is reported of each, by name.
    """
    from advunlearn.evaluation.metrics import clopper_pearson, loss_distances

    ks, wasserstein = loss_distances(losses[members], losses[~members])
    bounds = {part: clopper_pearson(round(accuracies[part] * count), count) for part, count in examples.items()}
    return {
        "accuracy": dict(accuracies),
        "accuracy_low": {part: low for part, (low, _) in bounds.items()},
        "accuracy_high": {part: high for part, (_, high) in bounds.items()},
        "examples": dict(examples),
        "loss_ks": ks,
        "loss_wasserstein": wasserstein,
        "attacks": attacks,
    }


def gap(model: ModelMetrics, retrained: ModelMetrics, without: Container[str] = ()) -> Gap:
    """Return how far a model's numbers lie above the retrained model's; for attacks, their AUC.

    Those `without` a gap compare two models: the original with itself has no gap that unlearning could close.
    """
    return {
        "accuracy": {part: model["accuracy"][part] - retrained["accuracy"][part] for part in model["accuracy"]},
        "loss_ks": model["loss_ks"] - retrained["loss_ks"],
        "loss_wasserstein": model["loss_wasserstein"] - retrained["loss_wasserstein"],
        "attacks": {
            name: attack["auc"] - retrained["attacks"][name]["auc"]
            for name, attack in model["attacks"].items()
            if name.split("/")[0] not in without
        },
    }


def algorithm_gap(algorithm: Mapping[str, Questions], model: ComparedName) -> dict[str, dict[str, float]]:
    """Return by attack and question how far an AUC lies above that of the algorithm that retrains."""
    return {
        attack: {question: asked[model]["auc"] - asked["retrained"]["auc"] for question, asked in questions.items()}
        for attack, questions in algorithm.items()
    }


def gaps_of(found: Gap) -> dict[str, float]:
    """Return the gaps by which methods are judged.

    They are those of all attacks by name, such as `lira`, and of questions on the algorithm by attack and question,
    such as `ulira efficacy`, where all forgotten examples are asked about.
    """
    asked = {
        asked_name(attack, question): value
        for attack, questions in found.get("algorithm", {}).items()
        for question, value in questions.items()
        if not is_tenth(question)
    }
    return {**found["attacks"], **asked}


def average_gap(found: Gap) -> float:
    """Return the mean of the sizes of four gaps: the accuracies on retain, forget and test set, and the attacks' AUC.

    The gap of the attacks is the mean over them; 0 is the aim. Several papers call it the average gap, such as Fan et
    al. 2024, https://arxiv.org/abs/2310.12508, section 5.1. A model that is retrained again has one as well: its floor.
    """
    return float(np.mean([*(abs(each) for each in found["accuracy"].values()), _attack_gap(found)]))


def tug_of_war(found: Gap, *, attacks: bool = False) -> float:
    """Return the tug-of-war score of Zhao et al. 2024, in [0, 1]; 1 is the aim.

    It is the product of 1 - |gap| over the accuracies on retain, forget and test set. With `attacks`, their gap takes
    the place of that on the forget set: ToW-MIA.

    References:
        K. Zhao, M. Kurmanji, G. Barbulescu, E. Triantafillou and P. Triantafillou, "What makes unlearning hard and what
        to do about it", NeurIPS 2024, https://arxiv.org/abs/2406.01257, section 3.
    """
    gaps = dict(found["accuracy"])
    if attacks:
        gaps["forget"] = _attack_gap(found)
    return float(np.prod([1 - abs(each) for each in gaps.values()]))


def _attack_gap(found: Gap) -> float:
    """Return the mean size of the gaps of all attacks."""
    return float(np.mean([abs(found["attacks"][name]) for name in primary(found["attacks"])]))


def measure_algorithm(ratios: NDArray[np.float64], *, seed: int) -> AlgorithmMetrics:
    """Return how well scores (2, k, n) tell the first of the two models from the second; see `Attack.audit`.

    What complementary originals share counts as one draw of the bootstraps for the intervals; `seed` is their seed.

    Raises:
        ValueError: if there is no score, or scores of one pair of originals alone.
    """
    from advunlearn.evaluation.metrics import auc_over_models
    from advunlearn.evaluation.over_models import tpr_over_models

    originals = ratios.shape[1]
    first = np.broadcast_to(np.arange(2)[:, None, None] == 0, ratios.shape)
    pair = np.broadcast_to(np.arange(originals)[:, None] // 2, ratios.shape)
    known = ~np.isnan(ratios)
    scored = ratios[known], first[known], pair[known]
    auc, low, high, interval = auc_over_models(*scored, seed=seed, cross_fitted=True)
    percent, twentieth = tpr_over_models(*scored, (0.01, 0.05), seed=seed, cross_fitted=True)
    return {
        "auc": auc,
        "auc_low": low,
        "auc_high": high,
        "interval": interval,
        "originals": originals,
        "scores": int(known[0].sum()),
        "tpr_at_fpr_0.01": percent[0],
        "tpr_at_fpr_0.01_low": percent[1],
        "tpr_at_fpr_0.01_high": percent[2],
        "tpr_at_fpr_0.05": twentieth[0],
        "tpr_at_fpr_0.05_low": twentieth[1],
        "tpr_at_fpr_0.05_high": twentieth[2],
    }


def primary(attacks: Iterable[str]) -> list[str]:
    """Return the names of the attacks, each once, without their variants (`attack/variant`)."""
    return [name for name in dict.fromkeys(attacks) if "/" not in name]


def strongest_attack(runs: Sequence[Metrics]) -> str:
    """Return the attack by which these runs of the same setting are judged: the one that finds most to be unlearned.

    It is the primary score whose AUC on the original model lies farthest from its AUC on the retrained model, beyond
    the 95 % interval of this difference: the distance of 0 from the nearer end of the interval, 0 if it holds 0. Over
    several runs the difference is their mean, and its interval combines theirs, as of independent runs. Attacks that
    most runs have come first; of equal distances, the larger difference. The reasons:

    - The original model: no unlearner influences the choice of the attack that judges it.
    - The distance to the retrained model, not to 0.5: what an attack tells of a model that never saw the forget set, as
      where a whole class is forgotten, cannot be unlearned.
    - Its size, not its sign: an AUC of 0.2 is as much a leak as one of 0.8. The signs of several runs count, so that
      noise cancels.
    - Beyond its interval: an attack with few examples, or a noisy one, is not the strongest by chance.
    - Primary scores only: with many variants the largest is large by chance.
    """

    def strength(attack: str) -> tuple[int, float, float]:
        having = [run for run in runs if attack in run["gap"]["original"]["attacks"]]
        mean = float(np.mean([run["gap"]["original"]["attacks"][attack] for run in having]))
        margin = np.linalg.norm([_margin(run, attack, above=mean > 0) for run in having]) / len(having)
        return len(having), max(0.0, abs(mean) - float(margin)), abs(mean)

    return max(primary(name for run in runs for name in run["gap"]["original"]["attacks"]), key=strength)


def _margin(run: Metrics, attack: str, *, above: bool) -> float:
    """Return the length of the interval of the original's gap on the side of 0.

    A file without this interval has those of the two AUC, as if they were independent.
    """
    found = run["gap"]["original"]
    if "attacks_low" in found and attack in found["attacks_low"]:
        gap = found["attacks"][attack]
        return gap - found["attacks_low"][attack] if above else found["attacks_high"][attack] - gap
    models = [run["models"][name]["attacks"][attack] for name in ("original", "retrained")]
    upper, lower = models if above else models[::-1]
    return float(np.hypot(upper["auc"] - upper["auc_low"], lower["auc_high"] - lower["auc"]))
