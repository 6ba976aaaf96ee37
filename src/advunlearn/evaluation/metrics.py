"""How well scores tell members from non-members, and how sure one can be of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import beta, ks_2samp, norm, rankdata, wasserstein_distance
from scipy.stats import t as student
from sklearn.metrics import roc_curve
from sklearn.model_selection import StratifiedKFold

from advunlearn.evaluation.attack_metrics import RocMetrics
from advunlearn.runtime.arrays import Floats

CONFIDENCE = 0.95
LOW_FPR = (0.01, 0.001)
FEW_GROUPS = 20  # with fewer, a cluster bootstrap's interval is too narrow


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


def roc(scores: ArrayLike, members: ArrayLike, *, seed: int = 0, cross_fitted: bool = False) -> RocMetrics:
    """Summarise how member scores (n,) tell members (n,) of bool from the rest; LARGE scores mean members.

    An example with a NaN score is left out and counted; infinities are the extremes. The random halves of the balanced
    accuracy and of epsilon come from `seed`; `cross_fitted` is passed on to `auc_interval`.

    Raises:
        ValueError: for shapes that do not fit, or where no member or no non-member has a score.
    """
    kept, inside, excluded = _scored(scores, members)
    positive, negative = kept[inside], kept[~inside]
    auc, low, high, interval = auc_interval(positive, negative, cross_fitted=cross_fitted)
    percent, tenth = (tpr_at_fpr(kept, inside, fpr) for fpr in LOW_FPR)
    return {
        "auc": auc,
        "auc_low": low,
        "auc_high": high,
        "interval": interval,
        "auc_distance": abs(auc - 0.5),
        "epsilon_low": epsilon_lower_bound(kept, inside, seed=seed),
        "balanced_accuracy": balanced_accuracy(kept, inside, seed=seed),
        "members": len(positive),
        "nonmembers": len(negative),
        "excluded": excluded,
        "note": _note(len(negative)),
        "tpr_at_fpr_0.01": percent.tpr,
        "tpr_at_fpr_0.01_low": percent.low,
        "tpr_at_fpr_0.01_high": percent.high,
        "tpr_at_fpr_0.01_count": percent.true_positives,
        "tpr_at_fpr_0.01_false_positives": percent.false_positives,
        "tpr_at_fpr_0.001": tenth.tpr,
        "tpr_at_fpr_0.001_low": tenth.low,
        "tpr_at_fpr_0.001_high": tenth.high,
        "tpr_at_fpr_0.001_count": tenth.true_positives,
        "tpr_at_fpr_0.001_false_positives": tenth.false_positives,
    }


def roc_curve_points(scores: ArrayLike, members: ArrayLike) -> tuple[Floats, Floats]:
    """Return (fpr, tpr) at every threshold, from (0, 0) to (1, 1); see `roc` for arguments and errors."""
    kept, inside, _ = _scored(scores, members)
    # Ranks in place of the scores: scikit-learn refuses infinities.
    fpr, tpr, _ = roc_curve(inside, rankdata(kept), drop_intermediate=False)
    return fpr, tpr


def auc_interval(
    positive: Floats, negative: Floats, *, cross_fitted: bool = False, confidence: float = CONFIDENCE
) -> tuple[float, float, float, str]:
    """Return the AUC, its interval, by default of 95 %, and how that was made.

    DeLong's variance (1988) on the logit scale, so that the interval stays within [0, 1]. If all members score above
    all non-members, or below, or all scores are equal, that variance is zero and has no meaning. The interval is then
    the exact one of a rate over as many trials as the smaller of the two groups has examples.

    Where the scores are `cross_fitted`, each from a fit on the other examples, DeLong's variance is doubled: what fold
    a teaches the fit that judges fold b, fold b teaches the fit that judges fold a, so that under the null each pair of
    folds is one draw that counts twice. Of a real signal less counts twice, and the interval is then too wide.
    """
    ranks = rankdata(np.concatenate([positive, negative]))
    n, m = len(positive), len(negative)
    above = (ranks[:n] - rankdata(positive)) / m  # each member's share of non-members below it
    below = 1 - (ranks[n:] - rankdata(negative)) / n
    auc = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else 0.25 for part in (above, below))
    variance *= 2 if cross_fitted else 1
    if variance == 0 or auc in (0.0, 1.0):
        low, high = clopper_pearson(round(auc * min(n, m)), min(n, m), confidence)
        return auc, low, high, "Clopper-Pearson on the smaller side"
    width = norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (auc * (1 - auc))
    made = "DeLong over examples, one model" + (", variance doubled for cross-fitting" if cross_fitted else "")
    return auc, float(expit(logit(auc) - width)), float(expit(logit(auc) + width)), made


def auc_over_models(
    scores: ArrayLike,
    members: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int,
    resamples: int = 2000,
    cross_fitted: bool = False,
) -> tuple[float, float, float, str]:
    """Return the AUC of scores from many models, its 95 % interval and how that was made.

    A cluster bootstrap: whole groups are drawn with replacement, so that what the examples of one model share, and the
    models that come from one original, counts as one draw. The interval lies between the percentiles of the resamples'
    AUCs, further out with fewer than 20 groups; see `widened`. Resamples without a member or a non-member are left out.

    Where the scores are `cross_fitted`, those of each half of the groups by a fit on the other half, both ends are
    moved out by the square root of two, as if the variance were doubled: the two halves' AUCs may be one and the same
    draw, and under the null they are. See `auc_interval`.

    Args:
        scores, members: (n,), of all models one after the other; see `roc`.
        groups: (n,) whole numbers, which model, or which original of several models, each score comes from.
        seed: of the resamples.
        resamples: how many.
        cross_fitted: see above.

    Raises:
        ValueError: as `roc`, for NaN scores, and for fewer than two groups.
    """
    kept, inside, excluded = _scored(scores, members)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(group) != len(kept) or excluded or len(names) < 2:
        raise ValueError(
            f"every score needs a group, of two at least: got {len(kept)} scores, {excluded} NaN, {len(names)} groups"
        )
    # won[g, h]: how often members of group g score above non-members of group h; all resamples then are products.
    won = np.zeros((len(names), len(names)))
    for other in range(len(names)):
        reference = np.sort(kept[~inside & (group == other)])
        below, not_above = (np.searchsorted(reference, kept[inside], side) for side in ("left", "right"))
        won[:, other] = np.bincount(group[inside], (below + not_above) / 2, len(names))
    positive, negative = (np.bincount(group[side], minlength=len(names)) for side in (inside, ~inside))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    pairs = (drawn @ positive) * (drawn @ negative)
    aucs = ((drawn @ won) * drawn).sum(1)[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(aucs, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    made = f"cluster bootstrap over {len(names)} groups, {resamples} resamples"
    auc = float(won.sum() / (positive.sum() * negative.sum()))
    if cross_fitted:
        made += ", variance doubled for cross-fitting"
    return auc, *widened(auc, (float(low), float(high)), len(names), cross_fitted=cross_fitted), made


def widened(value: float, ends: tuple[float, float], groups: int, *, cross_fitted: bool) -> tuple[float, float]:
    """Return the ends of a bootstrap interval of a rate, moved out from the value for what the bootstrap misses.

    By the square root of two where the scores are cross-fitted; see `auc_over_models`. With fewer than 20 groups also
    by what Student's interval of the mean of G groups is wider than the bootstrap's, t / z sqrt(G / (G - 1)): for 8
    groups (16 originals) a factor of 1.29, for 4 groups 1.87.
    """
    factor = np.sqrt(2) if cross_fitted else 1.0
    if groups < FEW_GROUPS:
        tail = (1 + CONFIDENCE) / 2
        factor *= student.ppf(tail, groups - 1) / norm.ppf(tail) * np.sqrt(groups / (groups - 1))
    if factor == 1:
        return ends
    low, high = np.clip(value + factor * (np.array(ends) - value), 0, 1)
    return float(low), float(high)


def tpr_at_fpr(scores: Floats, members: NDArray[np.bool_], fpr: float) -> TprAtFpr:
    """Return the true-positive rate at the last threshold with at most `fpr` false positives, without interpolation."""
    rates, found = roc_curve_points(scores, members)
    last = int(np.searchsorted(rates, fpr * (1 + 1e-12), side="right")) - 1
    positives = int(members.sum())
    count = round(found[last] * positives)
    low, high = clopper_pearson(count, positives)
    return TprAtFpr(fpr, float(found[last]), low, high, count, round(rates[last] * int((~members).sum())))


def balanced_accuracy(scores: Floats, members: NDArray[np.bool_], *, seed: int) -> float:
    """Return (TPR + TNR) / 2 at a threshold that is best on one random half, measured on the other half.

    The result is the mean over both directions. With fewer than two examples on a side there is nothing to choose on,
    and the answer is one half.
    """
    if min(members.sum(), (~members).sum()) < 2:
        return 0.5
    ranks = rankdata(scores)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed).split(ranks, members)
    return float(np.mean([_judged(ranks, members, chosen, judged) for chosen, judged in halves]))


def _judged(scores: Floats, members: NDArray[np.bool_], chosen: NDArray[np.intp], judged: NDArray[np.intp]) -> float:
    fpr, tpr, thresholds = roc_curve(members[chosen], scores[chosen], drop_intermediate=False)
    predicted = scores[judged] >= thresholds[int(np.argmax(tpr - fpr))]
    truth = members[judged]
    return float((predicted[truth].mean() + (~predicted[~truth]).mean()) / 2)


def epsilon_lower_bound(scores: ArrayLike, members: ArrayLike, *, seed: int, delta: float = 0.0) -> float:
    """Return the largest epsilon that these rates refute.

    If the model were (epsilon, delta)-private, no attack could have TPR > e^epsilon FPR + delta or TNR > e^epsilon FNR
    + delta (Kairouz et al. 2015).

    Threshold and direction are chosen on one random half and judged on the other by `epsilon_of_counts`, at the joint
    level of 95 %. That level supposes independent trials, each a training run with or without the example. The examples
    of ONE model are not: what comes back is an indicator to compare models by, not a certificate. Zero where nothing is
    refuted, or with fewer than two examples on a side.

    Raises:
        ValueError: as `roc`, and unless 0 <= delta < 1.
    """
    kept, inside, _ = _scored(scores, members)
    if min(inside.sum(), (~inside).sum()) < 2:
        return 0.0
    ranks = rankdata(kept)
    chosen, judged = next(StratifiedKFold(2, shuffle=True, random_state=seed).split(ranks, inside))

    def epsilons(sign: int, rows: NDArray[np.intp], thresholds: Floats) -> Floats:
        found, wrong = (np.sort(sign * ranks[rows][inside[rows] == side]) for side in (True, False))
        positives = [len(part) - np.searchsorted(part, thresholds) for part in (found, wrong)]
        return epsilon_of_counts(positives[0], len(found), positives[1], len(wrong), delta)

    # Members may also score low: over-forgetting makes examples detectable as well.
    candidates = {sign: np.unique(sign * ranks[chosen]) for sign in (1, -1)}
    refuted = {sign: epsilons(sign, chosen, candidates[sign]) for sign in candidates}
    sign = max(refuted, key=lambda sign: float(refuted[sign].max()))
    best = candidates[sign][[np.argmax(refuted[sign])]]
    return float(epsilons(sign, judged, best)[0])


def epsilon_of_counts(
    true_positives: ArrayLike, members: int, false_positives: ArrayLike, nonmembers: int, delta: float = 0.0
) -> Floats:
    """Return max(0, log((TPR_low - delta) / FPR_high), log((TNR_low - delta) / FNR_high)), of the counts' shape.

    Both directions rest on the same two one-sided Clopper-Pearson bounds, TPR_low = 1 - FNR_high and FPR_high = 1 -
    TNR_low, each at half of the level, so that they hold jointly.

    Raises:
        ValueError: for counts outside 0..trials, no trials, and unless 0 <= delta < 1.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), got {delta}")
    tpr = _lowest(np.asarray(true_positives), members, CONFIDENCE)
    fpr = _highest(np.asarray(false_positives), nonmembers, CONFIDENCE)
    ratio = np.maximum((tpr - delta) / fpr, (1 - fpr - delta) / (1 - tpr))
    return np.log(np.maximum(ratio, 1.0))


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate, given `successes` of `trials` (Clopper and Pearson 1934).

    Raises:
        ValueError: unless 0 <= successes <= trials and trials > 0.
    """
    count = np.asarray(successes)
    return float(_lowest(count, trials, confidence)), float(_highest(count, trials, confidence))


def _lowest(successes: NDArray[np.int64], trials: int, confidence: float) -> Floats:
    """Return the lower bounds; of no success it is 0, where the beta distribution degenerates."""
    _check_counts(successes, trials)
    return np.where(successes == 0, 0.0, beta.ppf((1 - confidence) / 2, successes, trials - successes + 1))


def _highest(successes: NDArray[np.int64], trials: int, confidence: float) -> Floats:
    """Return the upper bounds; of successes alone it is 1, where the beta distribution degenerates."""
    _check_counts(successes, trials)
    return np.where(successes == trials, 1.0, beta.ppf(1 - (1 - confidence) / 2, successes + 1, trials - successes))


def _check_counts(successes: NDArray[np.int64], trials: int) -> None:
    if trials <= 0 or (successes < 0).any() or (successes > trials).any():
        raise ValueError(f"successes must lie in 0..trials and trials be positive, got {successes} of {trials}")


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


def _scored(scores: ArrayLike, members: ArrayLike) -> tuple[Floats, NDArray[np.bool_], int]:
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
    """Return a warning if n non-members are too few for a low rate: below 3/n, no false positive is no evidence."""
    unmeasured = [f"{100 * fpr:g} %" for fpr in LOW_FPR if nonmembers * fpr < 3]
    if not unmeasured:
        return ""
    return f"{nonmembers} non-members are too few to measure a false-positive rate of {' or '.join(unmeasured)}"
