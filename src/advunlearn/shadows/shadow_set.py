"""Shadow models: trained on random halves of the examples, to learn what IN and OUT look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.runtime.seeding import numpy_stream
from advunlearn.shadows.model_set import STACK, ModelSet
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.storage.store import Artefact, index_digest


def shadow_rows(pool: NDArray[np.int64], index: int, seed: int, stream: str = "shadow") -> NDArray[np.int64]:
    """Return the half of the pool's rows that model `index` of the stream is trained on.

    Models come in complementary pairs (2j, 2j+1), so an even number of them has every row IN exactly half of the
    models, and a larger set begins with the smaller ones.
    """
    permuted = numpy_stream(seed, stream, index // 2).permutation(np.sort(pool))
    half = len(pool) // 2
    return permuted[:half] if index % 2 == 0 else permuted[half : 2 * half]


def shadow_pool(
    train: NDArray[np.int64], held_out: NDArray[np.int64], seed: int, stream: str = "shadow"
) -> NDArray[np.int64]:
    """Return the rows that models are drawn from: the training examples and as many held-out ones, if there are.

    So that a model, which sees half of them, is trained on as many examples as the original model is.
    """
    chosen = numpy_stream(seed, f"{stream}_pool").permutation(np.sort(held_out))[: len(train)]
    return np.concatenate([np.sort(train), np.sort(chosen)])


@dataclass(frozen=True)
class ShadowSet(ModelSet):
    """The shadow models of an experiment.

    They are asked about the `observed` rows, sorted, which hold what other requests to forget will ask for as well.
    """

    pool: NDArray[np.int64]
    observed: NDArray[np.int64]
    stream: str = "shadow"

    @property
    def kind(self) -> str:
        """Return `shadow`, or `reference` for the models that an auditor of the game compares with."""
        return self.stream

    @property
    def count(self) -> int:
        """Return how many models are wanted."""
        return self.options.shadows

    def rows(self, index: int) -> NDArray[np.int64]:
        """Return the rows that model `index` is trained on."""
        return shadow_rows(self.pool, index, self.trainer.settings.seed, self.stream)

    def key(self, index: int) -> dict[str, Any]:
        """Return everything that determines what model `index` says."""
        return {
            **self.trainer.key(self.rows(index), self.stream, index),
            "observed": index_digest(self.observed),
            "queries": self.options.queries,
            "stacked": self.stacked and STACK,
        }

    def make(self, group: Sequence[int]) -> Iterator[Artefact]:
        """Train models and yield what each says, with its share of the seconds that this took."""
        checkpoint = self.checkpoint(group[0])
        fitted = self.fit([self.rows(index) for index in group], self.stream, group, checkpoint)
        seconds = checkpoint.spent() / len(group)
        for network, record in fitted:
            logits = self.trainer.logits(network, self.observed, self.options.queries)
            yield Artefact({"seconds": seconds, **record}, {}, {"logits": logits})

    def observe(self, rows: NDArray[np.int64], population: Sequence[int] | NDArray[np.int64] = ()) -> ShadowOutputs:
        """Return what the models say of `rows` and `population`, which are among the observed ones.

        A row outside the pool is OUT of every model.
        """
        asked, others = (np.searchsorted(self.observed, np.asarray(each, dtype=int)) for each in (rows, population))
        said = list(self.said())
        logits = np.stack([each.arrays["logits"][asked] for each in said])
        of_population = np.stack([each.arrays["logits"][others] for each in said])
        membership = np.stack([np.isin(rows, self.rows(index)) for index in range(self.count)])
        return ShadowOutputs(logits, membership, of_population, seconds=self.cost(said))
