"""How often an attack is right when it calls an example a member, at a threshold that other models have chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from advunlearn.evaluation.attack_metrics import OperatingPoint, Threshold
from advunlearn.evaluation.metrics import CONFIDENCE, clopper_pearson
from advunlearn.runtime.arrays import Floats, Mask

FPR = 0.01  # at which shadow models choose the threshold
BOTH = (1 + CONFIDENCE) / 2  # the level of each of two intervals that hold jointly


def threshold_of(scores: Sequence[Floats], fpr: float = FPR) -> Threshold | None:
    """Return the smallest threshold that at most a share `fpr` of the scores exceeds.

    None without a score, and if the threshold is not finite.

    Args:
        scores: (n,) each, member scores of non-members under one shadow model in the place of the target.
        fpr: of the share.
    """
    found = np.sort(np.concatenate(list(scores)) if scores else np.empty(0))[::-1]
    if not len(found):
        return None
    value = float(found[min(math.floor(fpr * len(found) * (1 + 1e-12)), len(found) - 1)])
    return {"value": value, "models": len(scores), "scores": len(found)} if math.isfinite(value) else None


def precision(tpr: float, fpr: float, prior: float) -> float | None:
    """Return the share of members among the examples that are called members; None if none is.

    Args:
        tpr, fpr: rates at a threshold, in [0, 1].
        prior: the share of members among all examples.

    References:
        [jayaraman2021] B. Jayaraman, L. Wang, K. Knipmeyer, Q. Gu and D. Evans, "Revisiting Membership Inference Under
            Realistic Assumptions", PoPETs 2021. https://arxiv.org/abs/2005.10881 (the positive predictive value of an
            attack with an unbalanced prior)
    """
    called = prior * tpr + (1 - prior) * fpr
    return prior * tpr / called if called else None


def operating_point(scores: Floats, members: Mask, threshold: Threshold) -> OperatingPoint:
    """Return the rates of member scores (n,) above the threshold, and the precision for three priors.

    Rates have Clopper-Pearson intervals. The ends of a precision are those of the rectangle in which both rates lie
    with 95 % confidence, so that its interval is rather too wide. Examples with a NaN score are left out.
    """
    known = ~np.isnan(scores)
    called, inside = scores[known] > threshold["value"], members[known]
    counts = [(int(called[side].sum()), int(side.sum())) for side in (inside, ~inside)]
    tpr, fpr = (found / total for found, total in counts)
    (tpr_low, tpr_high), (fpr_low, fpr_high) = (clopper_pearson(*each) for each in counts)
    (least_true, most_true), (least_false, most_false) = (clopper_pearson(*each, BOTH) for each in counts)

    def of(prior: float) -> tuple[float | None, float, float]:
        ends = precision(least_true, most_false, prior), precision(most_true, least_false, prior)
        return precision(tpr, fpr, prior), ends[0] or 0.0, ends[1] or 0.0  # upper ends of rates are above 0

    rare, tenth, half = of(0.01), of(0.1), of(0.5)
    return {
        "threshold": threshold["value"],
        "models": threshold["models"],
        "scores": threshold["scores"],
        "tpr": tpr,
        "tpr_low": tpr_low,
        "tpr_high": tpr_high,
        "fpr": fpr,
        "fpr_low": fpr_low,
        "fpr_high": fpr_high,
        "precision_at_prior_0.01": rare[0],
        "precision_at_prior_0.01_low": rare[1],
        "precision_at_prior_0.01_high": rare[2],
        "precision_at_prior_0.1": tenth[0],
        "precision_at_prior_0.1_low": tenth[1],
        "precision_at_prior_0.1_high": tenth[2],
        "precision_at_prior_0.5": half[0],
        "precision_at_prior_0.5_low": half[1],
        "precision_at_prior_0.5_high": half[2],
    }
