"""Shadow models: trained on random halves of the examples, to learn the distributions of IN and OUT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.seeding import numpy_stream
from advunlearn.shadows.model_set import ModelSet
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.storage.artefacts import Artefact, index_digest


def shadow_rows(pool: NDArray[np.int64], index: int, seed: int, stream: str = "shadow") -> NDArray[np.int64]:
    """Return the half of the pool's rows that model `index` of the stream is trained on.

    Models come in complementary pairs (2j, 2j+1), so an even number of them has every row IN exactly half of the
    models, and a larger set begins with the smaller ones.
    """
    permuted = numpy_stream(seed, stream, index // 2).permutation(np.sort(pool))
    half = len(pool) // 2
    return permuted[:half] if index % 2 == 0 else permuted[half : 2 * half]


def drawn_rows(
    pool: NDArray[np.int64], index: int, size: int, seed: int, stream: str = "reference"
) -> NDArray[np.int64]:
    """Return the `size` rows of the pool that model `index` of the stream is trained on.

    The models of a block leave out, or have, successive windows of one permutation. So every row is IN about equally
    many models, and OUT of about equally many.
    """
    window = max(min(size, len(pool) - size), 1)
    block = len(pool) // window
    permuted = numpy_stream(seed, f"{stream}_drawn", index // block).permutation(np.sort(pool))
    start = index % block * window
    inside = np.zeros(len(pool), bool)
    inside[start : start + window] = True
    return permuted[inside if size <= len(pool) - size else ~inside][:size]


def shadow_pool(
    train: NDArray[np.int64], held_out: NDArray[np.int64], seed: int, stream: str = "shadow"
) -> NDArray[np.int64]:
    """Return the rows from which training sets are drawn: the training examples and as many held-out ones at most.

    A model is trained on half of them, so on as many examples as the original model.
    """
    chosen = numpy_stream(seed, f"{stream}_pool").permutation(np.sort(held_out))[: len(train)]
    return np.concatenate([np.sort(train), np.sort(chosen)])


@dataclass(frozen=True)
class ShadowSet(ModelSet):
    """The shadow models of an experiment.

    The store keeps their outputs on the `observed` rows, sorted, which include those of later requests to forget. Each
    model is trained on half of the pool, or on `size` rows of it.
    """

    pool: NDArray[np.int64]
    observed: NDArray[np.int64]
    stream: str = "shadow"
    size: int | None = None

    @property
    def kind(self) -> str:
        """Return `shadow`, or `reference` for the reference models of an auditor in the game."""
        return self.stream

    @property
    def count(self) -> int:
        """Return how many models are needed."""
        return self.options.shadows

    def rows(self, index: int) -> NDArray[np.int64]:
        """Return the rows that model `index` is trained on."""
        if self.size is not None:
            return drawn_rows(self.pool, index, self.size, self.trainer.settings.seed, self.stream)
        return shadow_rows(self.pool, index, self.trainer.settings.seed, self.stream)

    def key(self, index: int) -> dict[str, Any]:
        """Return everything that determines the outputs of model `index`."""
        return {
            **self.trainer.key(self.rows(index), self.stream, index),
            "observed": index_digest(self.observed),
            "queries": self.options.queries,
            "stacked": self.rounding,
        }

    def make(self, group: Sequence[int]) -> Iterator[Artefact]:
        """Train models and yield the outputs of each, with its share of the training seconds."""
        checkpoint = self.checkpoint(group[0])
        fitted = self.fit([self.rows(index) for index in group], self.stream, group, checkpoint)
        seconds = checkpoint.spent() / len(group)
        for network, record in fitted:
            logits = self.trainer.logits(network, self.observed, self.options.queries)
            yield Artefact({"seconds": seconds, **record}, {}, {"logits": logits})

    def observe(self, rows: NDArray[np.int64], population: Sequence[int] | NDArray[np.int64] = ()) -> ShadowOutputs:
        """Return the outputs of the models on `rows` and `population`, which are among the observed rows.

        A row outside the pool is OUT for every model.
        """
        attacked, others = (np.searchsorted(self.observed, np.asarray(each, dtype=int)) for each in (rows, population))
        outputs = list(self.outputs())
        logits = np.stack([each.arrays["logits"][attacked] for each in outputs])
        of_population = np.stack([each.arrays["logits"][others] for each in outputs])
        membership = np.stack([np.isin(rows, self.rows(index)) for index in range(self.count)])
        return ShadowOutputs(logits, membership, of_population, seconds=self.cost(outputs))
