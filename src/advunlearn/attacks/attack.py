"""What an attack is: a membership-inference attack on a finished model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.options import Component
from advunlearn.training.shadows import Shadows


@dataclass(frozen=True)
class Observations:
    """What an attack may ask the model that it attacks.

    Attributes:
        logits: (n, queries, classes) float32.
        labels: (n,), the examples' true classes.
        members: (n,) bool, True for forget examples and False for test examples; an attack that is fitted on them must
            score each example by a fit that never saw it.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    members: NDArray[np.bool_]


class Attack(Component):
    """Base of all attacks. A score is LARGE where the example is more likely a member, without exception."""

    needs_shadows: ClassVar[bool] = False

    def check(self, members: NDArray[np.bool_]) -> None:
        """Raise a ValueError, in one line, where this attack cannot tell so few members (n,) from the rest."""

    def score(
        self, target: Observations, shadows: Shadows | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return member scores (n,) by variant; the attack's primary score has the empty name.

        NaN marks an example that the attack has nothing to say about; the evaluation leaves it out and counts it.
        """
        raise NotImplementedError
