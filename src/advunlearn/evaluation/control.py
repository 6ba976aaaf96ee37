"""The audit of the audit: are retrained models alike to it, and do forget and test examples look alike to them?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student

from advunlearn.evaluation.further_metrics import Control, ControlledAttack, Probe, ProbedAttack
from advunlearn.evaluation.metrics import CONFIDENCE, auc_interval
from advunlearn.evaluation.paired import auc_difference
from advunlearn.runtime.arrays import Floats, Mask

Scores = Mapping[str, Floats]  # by attack; all models have the same


def joint(count: int) -> float:
    """Return the level of each of so many intervals that jointly hold at 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / count


def probe(retrained: Scores, members: Mask, cross_fitted: Sequence[str] = (), *, sampled: bool = True) -> Probe:
    """Return whether forget and test examples are exchangeable to the retrained model.

    It has seen neither, so that under every attack its AUC must be one half if the forget set is a random sample of the
    data that the test set is from. If not, the comparison of any AUC to one half is void.

    Args:
        retrained: the member scores (n,) of the retrained model by attack. Each is probed, at a joint level of 95 %.
        members: (n,) bool, True for forget examples.
        cross_fitted: attacks whose variance is doubled; see `metrics.auc_interval`.
        sampled: whether the forget set is a random sample.
    """
    found: dict[str, ProbedAttack] = {}
    for name, score in retrained.items():
        sides = (score[side & ~np.isnan(score)] for side in (members, ~members))
        doubled = name in cross_fitted
        auc, low, high, _ = auc_interval(*sides, cross_fitted=doubled, confidence=joint(len(retrained)))
        found[name] = {"auc": auc, "auc_low": low, "auc_high": high}
    void = [name for name, each in found.items() if not each["auc_low"] <= 0.5 <= each["auc_high"]]
    return {"attacks": found, "void": void, "sampled": sampled}


def control(
    candidate: Scores, references: Sequence[Scores], members: Mask, *, alike: bool, cross_fitted: Sequence[str] = ()
) -> Control:
    """Return whether a retrained model in the place of the unlearned one lies within its interval of the others.

    Its AUC under each attack is compared with the mean AUC of the reference models; the intervals of these differences
    hold jointly at 95 %. If forget and test examples are alike to retrained models, each of them has an expected AUC of
    one half, and the difference varies with the examples only: the interval is DeLong's of correlated curves, for any
    number of models. If not, some retrained models tell the two sets apart better than others; the interval is then
    at least Student's prediction interval from the R references, t(R - 1) s sqrt(1 + 1 / R); for two it is very wide.

    Args:
        candidate: its member scores (n,) by attack.
        references: those of at least two other retrained models.
        members: (n,) bool, True for forget examples.
        alike: whether forget and test examples are alike to retrained models; see `probe`.
        cross_fitted: as in `probe`.
    """
    level, found = joint(len(candidate)), {}
    for name, score in candidate.items():
        others = np.stack([each[name] for each in references])
        found[name] = _compared(score, others, members, level, alike=alike, cross_fitted=name in cross_fitted)
    failed = [name for name, each in found.items() if not each["low"] <= 0 <= each["high"]]
    return {"models": len(references) + 1, "attacks": found, "failed": failed}


def _compared(
    score: Floats, others: Floats, members: Mask, level: float, *, alike: bool, cross_fitted: bool
) -> ControlledAttack:
    difference, low, high = auc_difference(score, others, members, cross_fitted=cross_fitted, confidence=level)
    known = ~np.isnan(score)
    aucs = [auc_interval(each[members & known], each[~members & known])[0] for each in (score, *others)]
    spread, count = float(np.std(aucs[1:], ddof=1)), len(others)
    if not alike:
        half = float(student.ppf((1 + level) / 2, count - 1) * spread * np.sqrt(1 + 1 / count))
        low, high = min(low, difference - half), max(high, difference + half)
    return {
        "auc": aucs[0],
        "reference": float(np.mean(aucs[1:])),
        "spread": spread,
        "difference": difference,
        "low": low,
        "high": high,
    }
