"""How well scores tell members from non-members, and how sure one can be of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import beta, ks_2samp, norm, rankdata, wasserstein_distance
from sklearn.metrics import roc_curve
from sklearn.model_selection import StratifiedKFold

Array = NDArray[np.float64]

CONFIDENCE = 0.95
LOW_FPR = (0.01, 0.001)


@dataclass(frozen=True)
class TprAtFpr:
    """The largest true-positive rate among thresholds whose false-positive rate is at most `fpr`.

    Attributes:
        tpr: in [0, 1], with its Clopper-Pearson interval `low`, `high`.
        true_positives, false_positives: the counts that it comes from.
    """

    fpr: float
    tpr: float
    low: float
    high: float
    true_positives: int
    false_positives: int


@dataclass(frozen=True)
class RocSummary:
    """Everything reported of one attack on one model.

    Attributes:
        auc: probability that a member scores higher than a non-member, ties counting half; `auc_low`, `auc_high` its 95
            % interval.
        interval: how that interval was made.
        balanced_accuracy: at thresholds chosen on the other half of the examples, both ways, averaged.
        members, nonmembers: how many were scored; `excluded` had no score.
        low_fpr: true-positive rates at 1 % and 0.1 % false positives.
        note: what the numbers cannot say, in words; empty if nothing.
    """

    auc: float
    auc_low: float
    auc_high: float
    interval: str
    balanced_accuracy: float
    members: int
    nonmembers: int
    excluded: int
    low_fpr: tuple[TprAtFpr, ...]
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data under the names of `metrics.json`."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "low_fpr"}
        for point in self.low_fpr:
            name = f"tpr_at_fpr_{point.fpr:g}"
            plain |= {name: point.tpr, f"{name}_low": point.low, f"{name}_high": point.high}
            plain |= {f"{name}_count": point.true_positives, f"{name}_false_positives": point.false_positives}
        return plain


def roc(scores: ArrayLike, members: ArrayLike, *, seed: int = 0) -> RocSummary:
    """Summarise how member scores (n,) tell members (n,) of bool from the rest; LARGE scores mean members.

    An example with a NaN score is left out and counted; infinities are the extremes. The random halves of the balanced
    accuracy come from `seed`.

    Raises:
        ValueError: for shapes that do not fit, or where no member or no non-member has a score.
    """
    kept, inside, excluded = _scored(scores, members)
    positive, negative = kept[inside], kept[~inside]
    auc, low, high, interval = auc_interval(positive, negative)
    points = tuple(tpr_at_fpr(kept, inside, fpr) for fpr in LOW_FPR)
    return RocSummary(
        auc=auc,
        auc_low=low,
        auc_high=high,
        interval=interval,
        balanced_accuracy=balanced_accuracy(kept, inside, seed=seed),
        members=len(positive),
        nonmembers=len(negative),
        excluded=excluded,
        low_fpr=points,
        note=_note(len(negative)),
    )


def roc_curve_points(scores: ArrayLike, members: ArrayLike) -> tuple[Array, Array]:
    """Return (fpr, tpr) at every threshold, from (0, 0) to (1, 1); see `roc` for arguments and errors."""
    kept, inside, _ = _scored(scores, members)
    # Ranks in place of the scores: scikit-learn refuses infinities.
    fpr, tpr, _ = roc_curve(inside, rankdata(kept), drop_intermediate=False)
    return fpr, tpr


def auc_interval(positive: Array, negative: Array) -> tuple[float, float, float, str]:
    """Return the AUC, its 95 % interval and how that was made.

    DeLong's variance (1988) on the logit scale, so that the interval stays within [0, 1]. Where all
    members score above all non-members, or below, or all alike, that variance is zero and says nothing: the interval is
    then the exact one of a rate over as many trials as there are examples on the smaller side.
    """
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    above = (ranks[:n] - rankdata(positive)) / m  # each member's share of non-members below it
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    auc = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else 0.25 for part in (above, below))
    if variance == 0 or auc in (0.0, 1.0):
        low, high = clopper_pearson(round(auc * min(n, m)), min(n, m))
        return auc, low, high, "Clopper-Pearson on the smaller side"
    width = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    return auc, float(expit(logit(auc) - width)), float(expit(logit(auc) + width)), "DeLong over examples, one model"


def tpr_at_fpr(scores: Array, members: NDArray[np.bool_], fpr: float) -> TprAtFpr:
    """Return the true-positive rate at the last threshold with at most `fpr` false positives, without interpolation."""
    rates, found = roc_curve_points(scores, members)
    last = int(np.searchsorted(rates, fpr * (1 + 1e-12), side="right")) - 1
    positives = int(members.sum())
    count = round(found[last] * positives)
    low, high = clopper_pearson(count, positives)
    return TprAtFpr(fpr, float(found[last]), low, high, count, round(rates[last] * int((~members).sum())))


def balanced_accuracy(scores: Array, members: NDArray[np.bool_], *, seed: int) -> float:
    """Return (TPR + TNR) / 2 at a threshold chosen where it is best on one random half, judged on the other; the mean
    of both ways.

    With fewer than two examples on a side there is nothing to choose on, and the answer is one half.
    """
    if min(members.sum(), (~members).sum()) < 2:
        return 0.5
    ranks = rankdata(scores)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed).split(ranks, members)
    return float(np.mean([_judged(ranks, members, chosen, judged) for chosen, judged in halves]))


def _judged(scores: Array, members: NDArray[np.bool_], chosen: NDArray[np.intp], judged: NDArray[np.intp]) -> float:
    fpr, tpr, thresholds = roc_curve(members[chosen], scores[chosen], drop_intermediate=False)
    said = scores[judged] >= thresholds[int(np.argmax(tpr - fpr))]
    truth = members[judged]
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate of which `successes` of `trials` were seen (Clopper and Pearson
    1934).

    Raises:
        ValueError: unless 0 <= successes <= trials and trials > 0.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"successes must lie in 0..trials and trials be positive, got {successes} of {trials}")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def loss_distances(member_losses: ArrayLike, nonmember_losses: ArrayLike) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance in [0, 1] and the 1-Wasserstein distance in nats of two samples of losses.

    Raises:
        ValueError: if a sample is empty or holds a value that is not finite.
    """
    first, second = (np.asarray(losses, dtype=np.float64) for losses in (member_losses, nonmember_losses))
    if not len(first) or not len(second):
        raise ValueError("losses of members and of non-members are needed, got none of one")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("losses must be finite; the model has diverged")
    return float(ks_2samp(first, second).statistic), float(wasserstein_distance(first, second))


def _scored(scores: ArrayLike, members: ArrayLike) -> tuple[Array, NDArray[np.bool_], int]:
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(members)
    if values.ndim != 1 or inside.shape != values.shape or inside.dtype != bool:
        raise ValueError(
            f"scores and members must be (n,) and members bool, got {values.shape} and {inside.dtype} {inside.shape}"
        )
    known = ~np.isnan(values)
    if not inside[known].any() or inside[known].all():
        raise ValueError("scores of at least one member and one non-member are needed")
    return values[known], inside[known], int((~known).sum())


def _note(nonmembers: int) -> str:
    """Say at which low rates so few non-members cannot speak: below 3/n even no false positive is no evidence."""
    silent = [f"{100 * fpr:g} %" for fpr in LOW_FPR if nonmembers * fpr < 3]
    if not silent:
        return ""
    return f"{nonmembers} non-members are too few to speak about a false-positive rate of {' or '.join(silent)}"
