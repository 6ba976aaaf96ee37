"""Shadow models: trained on random halves of the examples, to learn what IN and OUT look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.examples import QUERIES
from advunlearn.options import Component, option
from advunlearn.progress import progress
from advunlearn.seeding import numpy_stream
from advunlearn.training.trainer import Trainer


@dataclass
class ShadowOptions(Component):
    """How many shadow models there are and how they are asked, for all attacks of a run.

    Attributes:
        shadows: models; an even number, so that every example is IN exactly half of them.
        queries: views of an example that a model is asked about, of `QUERIES`: the image, its mirror image, shifts.
    """

    shadows: int = option(128, at_least=0)
    queries: int = option(1, at_least=1, at_most=len(QUERIES))

    def conflicts(self) -> list[str]:
        """Refuse an odd number of models."""
        odd = self.shadows % 2
        return [f"shadows must be an even whole number, got {self.shadows} (try shadows=16)"] if odd else []


@dataclass(frozen=True)
class Shadows:
    """What k shadow models say of the examples under attack and of the population, OUT of all of them.

    Attributes:
        logits: (k, n, queries, classes) float32.
        membership: (k, n), True where IN.
        population: (k, z, queries, classes) float32.
    """

    logits: NDArray[np.float32]
    membership: NDArray[np.bool_]
    population: NDArray[np.float32]


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
    trainer: Trainer,
    pool: NDArray[np.int64],
    options: ShadowOptions,
    observed: NDArray[np.int64],
    rows: NDArray[np.int64],
    population: NDArray[np.int64],
) -> Shadows:
    """Return what the shadow models say of `rows` and `population`, training those that the store does not hold.

    A row outside the pool is OUT of every model. What is kept of a model is what it says of the `observed` rows,
    sorted, which both are among: they hold what other requests to forget will ask for as well.
    """
    logits, membership, others = [], [], []
    for index in progress(range(options.shadows), "shadow models"):
        trained_on = shadow_rows(pool, index, trainer.settings.seed)
        said = trainer.shadow_logits(trained_on, index, observed, options.queries)
        logits.append(said[np.searchsorted(observed, rows)])
        membership.append(np.isin(rows, trained_on))
        others.append(said[np.searchsorted(observed, population)])
    return Shadows(np.stack(logits), np.stack(membership), np.stack(others))
