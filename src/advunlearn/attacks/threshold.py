"""Threshold attacks: one number of the model's output, compared with a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack, Observations, Outputs
from advunlearn.attacks.statistics import confidence, cross_entropy, entropy, modified_entropy
from advunlearn.data.by_class import positions_by_class
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Floats, Labels
from advunlearn.shadows.outputs import ShadowOutputs

PER_CLASS = "modified_entropy"  # the statistic that has a threshold for each class


@dataclass
class Threshold(Attack):
    """Call an example a member if its loss is low (Yeom et al. 2018).

    Further scores: its confidence is high, its entropy is low (Shokri et al. 2017), or its modified entropy is low
    (Song and Mittal 2021, equation 8).

    With one query, loss, confidence and logit margin give the same ranking.

    With a population, the modified entropy also has a threshold per class (Song and Mittal 2021, section 4), chosen on
    examples that are not under attack. The score `per_class` uses the thresholds with the same false-positive rate in
    each class's population. The metric `per_class_balanced_accuracy` uses those that best separate the retained
    examples from the population.

    References:
        [yeom2018] S. Yeom, I. Giacomelli, M. Fredrikson and S. Jha, "Privacy Risk in Machine Learning: Analyzing the
            Connection to Overfitting", IEEE Computer Security Foundations Symposium 2018.
            https://arxiv.org/abs/1709.01604 (loss)
        [shokri2017] R. Shokri, M. Stronati, C. Song and V. Shmatikov, "Membership Inference Attacks Against Machine
            Learning Models", IEEE Symposium on Security and Privacy 2017. https://arxiv.org/abs/1610.05820 (entropy)
        [song2021] L. Song and P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models", USENIX
            Security 2021. https://arxiv.org/abs/2003.10595 (modified entropy: equation 8; thresholds per class: section
            4)
    """

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the scores, each the mean over queries or made from it; see `Attack.score`."""
        scores = _statistics(target)
        if target.population is not None:
            population = _statistics(target.population)[PER_CLASS]
            scores["per_class"] = class_percentiles(
                scores[PER_CLASS], target.labels, population, target.population.labels
            )
        return scores

    def figures(self, target: Observations) -> dict[str, float]:
        """Return `per_class_balanced_accuracy`, if there are retain examples and a population; see `Attack.figures`."""
        if target.retain is None or target.population is None:
            return {}
        known = [_statistics(part)[PER_CLASS] for part in (target.retain, target.population)]
        labels = np.concatenate([target.retain.labels, target.population.labels])
        members = np.arange(len(labels)) < len(target.retain.labels)
        thresholds = per_class_thresholds(np.concatenate(known), labels, members, target.logits.shape[-1])
        predicted = _statistics(target)[PER_CLASS] >= thresholds[target.labels]
        rates = predicted[target.members].mean(), (~predicted[~target.members]).mean()
        return {"per_class_balanced_accuracy": float(np.mean(rates))}


def class_percentiles(scores: Floats, labels: Labels, population: Floats, population_labels: Labels) -> Floats:
    """Return the share of its class's population that each score exceeds, (n,) in [0, 1]; ties count half.

    One threshold on it is a threshold per class on the scores, with the same false-positive rate in every class. For a
    class with m examples it has m + 1 levels, so rates below 1/m cannot be measured. A class without examples in the
    population is compared with the whole population.

    Args:
        scores, labels: (n,) member scores of any scale, and classes.
        population, population_labels: (m,), the same of non-members.

    Raises:
        ValueError: if the population is empty or holds a NaN.
    """
    if not len(population) or np.isnan(population).any():
        raise UserError(f"class percentiles need a population without NaN, got {len(population)} scores")
    percentiles = np.empty(len(scores))
    same = positions_by_class(population_labels)
    for label, own in positions_by_class(labels).items():
        reference = np.sort(population[same[label]] if label in same else population)
        below, not_above = (np.searchsorted(reference, scores[own], side) for side in ("left", "right"))
        percentiles[own] = (below + not_above) / (2 * len(reference))
    return percentiles


def per_class_thresholds(scores: Floats, labels: Labels, members: NDArray[np.bool_], classes: int) -> Floats:
    """Return for each class (classes,) the threshold t at which (TPR + TNR) / 2 of `score >= t` is largest.

    As Song and Mittal's code does, the candidates are the class's scores, those of members first, and the first best
    one wins. A class that lacks members or non-members gets the threshold of all classes together.

    Args:
        scores, labels, members: (n,) scores, classes and memberships known to the attacker.
        classes: how many there are.

    Raises:
        ValueError: without any member or non-member.
    """
    if members.all() or not members.any():
        raise UserError("thresholds need members and non-members, got one of the two alone")
    thresholds = np.full(classes, best_threshold(scores[members], scores[~members]))
    for label, own in positions_by_class(labels).items():
        inside, outside = scores[own[members[own]]], scores[own[~members[own]]]
        if len(inside) and len(outside):
            thresholds[label] = best_threshold(inside, outside)
    return thresholds


def best_threshold(members: Floats, nonmembers: Floats) -> float:
    """Return the score t at which (TPR + TNR) / 2 of `score >= t` is largest, given scores (n,) and (m,)."""
    candidates = np.concatenate([members, nonmembers])
    found = len(members) - np.searchsorted(np.sort(members), candidates)
    rejected = np.searchsorted(np.sort(nonmembers), candidates)
    return float(candidates[np.argmax(found / len(members) + rejected / len(nonmembers))])


def _statistics(outputs: Outputs) -> dict[str, Floats]:
    """Return the four member scores by name, (n,) each, the mean over queries."""
    labels = np.repeat(outputs.labels[:, None], outputs.logits.shape[1], axis=1)
    scores = {
        "": -cross_entropy(outputs.logits, labels),
        "confidence": confidence(outputs.logits, labels),
        "entropy": -entropy(outputs.logits),
        "modified_entropy": -modified_entropy(outputs.logits, labels),
    }
    return {name: score.mean(axis=1) for name, score in scores.items()}
