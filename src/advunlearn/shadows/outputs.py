"""What shadow models output, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ShadowOutputs:
    """What k shadow models say of the examples under attack and of the population, OUT of all of them.

    Attributes:
        logits: (k, n, queries, classes) float32.
        membership: (k, n), True where IN.
        population: (k, z, queries, classes) float32.
        seconds: that training them took in all, when it was done, on one core.
    """

    logits: NDArray[np.float32]
    membership: NDArray[np.bool_]
    population: NDArray[np.float32]
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class UnlearnedOutputs(ShadowOutputs):
    """What k unlearned shadow models say: an example is IN where the original was trained on it and then forgot it.

    Of an example that no original forgets, nothing is IN, and membership does not say who was trained on it.

    Attributes:
        original, retrained, retrained_again: (k, n, queries, classes) float32, what else was made beside each unlearned
            model: the original, and two models trained without its forget set, from different random streams.
    """

    original: NDArray[np.float32]
    retrained: NDArray[np.float32]
    retrained_again: NDArray[np.float32]
