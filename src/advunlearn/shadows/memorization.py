"""How much models memorize examples: those that were trained on an example, compared with those that were not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.arrays import Rows
from advunlearn.shadows.outputs import ShadowOutputs


def memorization(outputs: ShadowOutputs, labels: Rows) -> NDArray[np.float64]:
    """Return P[correct | IN] - P[correct | OUT] of each example, (n,), in [-1, 1] (Feldman and Zhang 2020).

    It is NaN if no model is IN, or none is OUT.

    Args:
        outputs: of k models on n examples; the first query is used.
        labels: (n,).
    """
    correct = outputs.logits[:, :, 0].argmax(axis=-1) == labels
    return _difference(correct.astype(np.float64), outputs.membership)


def known_mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of the numbers that are not NaN; None if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def difficulty(outputs: ShadowOutputs, labels: Rows) -> NDArray[np.float64]:
    """Return the rank of each example by memorization, (n,), 0 for the lowest; NaN counts as 0.

    Equal ones are ordered by the same difference in the probability of the label.
    """
    probability = np.stack([confidence(each, labels) for each in outputs.logits[:, :, 0]])
    parts = (_difference(probability, outputs.membership), memorization(outputs, labels))
    order = np.lexsort([np.nan_to_num(each) for each in parts])
    return np.argsort(order).astype(np.float64)


def confidence(logits: NDArray[np.float32], labels: Rows) -> NDArray[np.float64]:
    """Return the probability of the label of each example, (n,), from logits (n, c)."""
    from scipy.special import log_softmax

    return np.asarray(np.exp(log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]))


def _difference(values: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean (n,) of the values (k, n) of the models that are IN, less that of the others."""
    with np.errstate(invalid="ignore"):
        means = [(values * side).sum(axis=0) / side.sum(axis=0) for side in (inside, ~inside)]
    return means[0] - means[1]
