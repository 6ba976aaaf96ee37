"""Which other classes the examples of a forgotten class are taken for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from advunlearn.evaluation.further_metrics import NeighbourMetrics
from advunlearn.runtime.arrays import Rows

DRAWS = 1000


def nearest_other(logits: NDArray[np.float32], forgotten: Rows) -> Rows:
    """Return the class (n,) with the largest of the logits (n, c) that is not a forgotten one.

    Raises:
        ValueError: if no class is left.
    """
    others = np.setdiff1d(np.arange(logits.shape[-1]), forgotten)
    if not len(others):
        raise ValueError("all classes are forgotten: there is no other class")
    return np.asarray(others[logits[:, others].argmax(-1)])


def shares(assigned: Rows, classes: int) -> NDArray[np.float64]:
    """Return the share (..., classes) of each class among assignments (..., n)."""
    flat = assigned.reshape(-1, assigned.shape[-1])
    place = flat + classes * np.arange(len(flat))[:, None]
    counts = np.bincount(place.ravel(), minlength=classes * len(flat)).reshape(*assigned.shape[:-1], classes)
    return np.asarray(counts / assigned.shape[-1])


def distances(assigned: Rows, classes: int) -> NDArray[np.float64]:
    """Return the total-variation distance (m,) of each of m models' distribution of classes to the others' mean.

    Args:
        assigned: (m, n) classes of n examples, m at least 2.
        classes: how many there are.
    """
    own = shares(assigned, classes)
    others = (own.sum(0) - own) / (len(own) - 1)
    return np.asarray(np.abs(own - others).sum(-1) / 2)


def neighbour_distance(candidate: Rows, references: Rows, classes: int, *, seed: int) -> NeighbourMetrics:
    """Return how far the neighbour classes that one model assigns are from those of retrained models.

    It is the total-variation distance between the distribution of `candidate`'s assignments and the mean of those of
    the references. There are two nulls:

    - `p_value`: the model is exchangeable with the references. Each of them in turn is compared with all others, and
      the p value is the share of models that lie as far as the candidate. It is exact for any dependence between
      examples, but at least 1 / (r + 1): with one reference it is 1.
    - `null_high`: the assignments of each example are exchanged at random between the models. That supposes errors that
      are independent from example to example, whereas one retrained model may prefer another neighbour class for many
      of them: a distance below it is no difference, a distance above it need not be one.

    Args:
        candidate: (n,) assigned classes.
        references: (r, n), those of retrained models.
        classes: how many there are.
        seed: of the exchanges.

    References:
        [ebrahimpour2025class] A. Ebrahimpour-Boroojeny, Y. Wang and H. Sundaram, "On the Necessity of Output
            Distribution Reweighting for Effective Class Unlearning", 2025. https://arxiv.org/abs/2506.20893 (MIA-NN: an
            attack by the probabilities of neighbour classes; the distance of their distributions and its nulls are this
            project's)
    """
    assigned = np.vstack([candidate, references])
    total, found = shares(assigned, classes).sum(0), distances(assigned, classes)
    places = np.random.default_rng(seed).integers(len(assigned), size=(DRAWS, assigned.shape[1]))
    drawn = shares(assigned[places, np.arange(assigned.shape[1])], classes)
    null = np.abs(drawn - (total - drawn) / len(references)).sum(-1) / 2
    return {
        "distance": float(found[0]),
        "null_high": float(np.quantile(null, 0.95)),
        "p_value": float((found >= found[0] - 1e-12).mean()),
    }


def floor(references: Rows, classes: int) -> float | None:
    """Return the largest distance of a retrained model to the others, None for fewer than three; see `distances`."""
    return float(distances(references, classes).max()) if len(references) > 2 else None
