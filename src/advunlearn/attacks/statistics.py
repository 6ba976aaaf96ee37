"""Statistics of a model's output on one example, exact in log space: no eps, no clipping, no saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from advunlearn.runtime.arrays import Floats


def logit_margin(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return z_y - logsumexp_{j != y} z_j (...), the log-odds of the true class (Carlini et al. 2022, section IV-C).

    A wrong class may be masked by -inf; where all of them are, the margin is +inf.

    Args:
        logits: (..., c), at least two classes.
        labels: (...), whole numbers in 0..c-1.

    Raises:
        ValueError: for NaN or +inf logits, a true class at -inf, and labels that do not fit.
    """
    scores, own = _checked(logits, labels)
    true = np.take_along_axis(scores, own, axis=-1)[..., 0]
    others = scores.copy()
    np.put_along_axis(others, own, -np.inf, axis=-1)
    return -_logsumexp(others - true[..., None])  # differences first: large logits would swallow the sum's logarithm


def query_margins(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Floats:
    """Return the logit margins (..., n, queries) of logits (..., n, queries, c) for labels (n,); see `logit_margin`."""
    return logit_margin(logits, np.broadcast_to(labels[:, None], logits.shape[:-1]))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return -log p_y, of shape (...), as log(1 + exp(-margin)); see `logit_margin` for arguments and errors."""
    return np.logaddexp(0.0, -logit_margin(logits, labels))


def confidence(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return p_y, of shape (...); see `logit_margin` for arguments and errors."""
    return np.exp(-cross_entropy(logits, labels))


def entropy(logits: ArrayLike) -> Floats:
    """Return Shannon's entropy of the predicted distribution in nats, of shape (...): low for members.

    Raises:
        ValueError: for NaN or +inf logits.
    """
    log_probabilities = _log_softmax(_finite(logits))
    return _expected(-log_probabilities, np.exp(log_probabilities))


def modified_entropy(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Return -(1 - p_y) log p_y - sum_{j != y} p_j log(1 - p_j), of shape (...): low for members.

    Song and Mittal 2021, equation 8. See `logit_margin` for arguments and errors.
    """
    scores, own = _checked(logits, labels)
    log_probabilities = _log_softmax(scores)
    log_complements = _log_complements(log_probabilities)
    wrong = _expected(-log_complements, np.exp(log_probabilities), own)
    complement = np.exp(np.take_along_axis(log_complements, own, axis=-1)[..., 0])
    return wrong + np.where(complement > 0, complement * cross_entropy(logits, labels), 0.0)


def _log_complements(log_probabilities: Floats) -> Floats:
    """Return log(1 - p_j) of each class, of the shape of log p_j."""
    # Only the largest p_j can be near one, where 1 - p_j loses its digits: there the other classes are summed.
    largest = log_probabilities.argmax(axis=-1)[..., None]
    others = log_probabilities.copy()
    np.put_along_axis(others, largest, -np.inf, axis=-1)
    complements = np.log1p(-np.exp(others))
    np.put_along_axis(complements, largest, _logsumexp(others)[..., None], axis=-1)
    return complements


def share_below(values: Floats, population: Floats) -> Floats:
    """Return the share (n,) of a population (z, q) that lies strictly below each of the values (n, q).

    The share is computed for each query and averaged over queries; it is NaN where a value is NaN.
    """
    ranks = [
        np.searchsorted(np.sort(others), own, side="left") for own, others in zip(values.T, population.T, strict=True)
    ]
    return np.asarray(np.where(np.isnan(values).any(1), np.nan, np.mean(ranks, axis=0) / len(population)))


def _expected(values: Floats, weights: Floats, skip: NDArray[np.intp] | None = None) -> Floats:
    """Return sum of weights * values over the last axis, with 0 * inf = 0, leaving out the column `skip`."""
    terms = np.multiply(weights, values, out=np.zeros_like(values), where=weights > 0)
    if skip is not None:
        np.put_along_axis(terms, skip, 0.0, axis=-1)
    return terms.sum(axis=-1)


def _logsumexp(scores: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(scores, axis=-1))


def _log_softmax(scores: Floats) -> Floats:
    return np.asarray(log_softmax(scores, axis=-1))


def _finite(logits: ArrayLike) -> Floats:
    scores = np.asarray(logits, dtype=np.float64)
    if scores.ndim == 0 or scores.shape[-1] < 2:
        raise ValueError(f"logits must be (..., classes) with at least two classes, got shape {scores.shape}")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ValueError("logits must not hold NaN or +inf; the model has diverged")
    if np.isneginf(scores).all(axis=-1).any():
        raise ValueError("logits must not be -inf for every class")
    return scores


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    scores, own = _finite(logits), np.asarray(labels)
    if own.shape != scores.shape[:-1] or own.dtype.kind not in "iu":
        wanted = scores.shape[:-1]
        raise ValueError(f"labels must be whole numbers of shape {wanted}, got {own.dtype} of shape {own.shape}")
    if own.size and not 0 <= own.min() <= own.max() < scores.shape[-1]:
        raise ValueError(f"labels must lie in 0..{scores.shape[-1] - 1}, got {own.min()}..{own.max()}")
    own = own[..., None].astype(np.intp)
    if np.isneginf(np.take_along_axis(scores, own, axis=-1)).any():
        raise ValueError("the true class's logit must not be -inf")
    return scores, own
