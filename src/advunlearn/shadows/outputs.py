"""What shadow models output, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ShadowOutputs:
    """The outputs of k shadow models on the examples under attack and on the population, which is OUT for all of them.

    Attributes:
        logits: (k, n, queries, classes) float32.
        membership: (k, n), True where IN.
        population: (k, z, queries, classes) float32.
        seconds: total time of their training on one core, when it was done.
    """

    logits: NDArray[np.float32]
    membership: NDArray[np.bool_]
    population: NDArray[np.float32]
    seconds: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class UnlearnedOutputs(ShadowOutputs):
    """The outputs of k unlearned shadow models: an example is IN if the original was trained on it and then forgot it.

    An example that no original forgets is never IN; its membership is not whether an original was trained on it.

    Attributes:
        original, retrained, retrained_again: (k, n, queries, classes) float32, for each unlearned model: its original,
            and two models trained without its forget set, from different random streams.
    """

    original: NDArray[np.float32]
    retrained: NDArray[np.float32]
    retrained_again: NDArray[np.float32]
