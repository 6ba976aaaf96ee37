"""Shadow models: trained on random halves of the examples, to learn what IN and OUT look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.progress import progress
from advunlearn.seeding import numpy_stream
from advunlearn.training.trainer import Trainer


@dataclass(frozen=True)
class Shadows:
    """What shadow models say: logits (k, n, queries, classes) float32, and membership (k, n), True where IN."""

    logits: NDArray[np.float32]
    membership: NDArray[np.bool_]


def shadow_rows(pool: NDArray[np.int64], index: int, seed: int) -> NDArray[np.int64]:
    """Return the half of the pool's rows that shadow model `index` is trained on.

    Models come in complementary pairs (2j, 2j+1), so an even number of them has every row IN exactly half of the
    models, and a larger set begins with the smaller ones.
    """
    permuted = numpy_stream(seed, "shadow", index // 2).permutation(np.sort(pool))
    half = len(pool) // 2
    return permuted[:half] if index % 2 == 0 else permuted[half : 2 * half]


def shadow_pool(train: NDArray[np.int64], test: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the rows that shadow models are drawn from: the training examples and as many test examples, if there are.

    So that a shadow model, which sees half of them, is trained on as many examples as the original model is.
    """
    chosen = numpy_stream(seed, "shadow_pool").permutation(np.sort(test))[: len(train)]
    return np.concatenate([np.sort(train), np.sort(chosen)])


def observe_shadows(
    trainer: Trainer, pool: NDArray[np.int64], count: int, observed: NDArray[np.int64], rows: NDArray[np.int64]
) -> Shadows:
    """Return what `count` shadow models say of `rows`, training those that the store does not hold.

    A row outside the pool is OUT of every model. What is kept of a model is what it says of the `observed` rows,
    sorted, which `rows` are among: they hold what other requests to forget will ask for as well.
    """
    logits, membership = [], []
    for index in progress(range(count), "shadow models"):
        trained_on = shadow_rows(pool, index, trainer.settings.seed)
        logits.append(trainer.shadow_logits(trained_on, index, observed)[np.searchsorted(observed, rows)])
        membership.append(np.isin(rows, trained_on))
    return Shadows(np.stack(logits), np.stack(membership))
