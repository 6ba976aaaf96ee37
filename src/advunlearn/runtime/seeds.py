"""The seeds of a run's parts: of its training, its unlearning and its audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advunlearn.options import Component, option
from advunlearn.runtime.seeding import seed_sequence

Role = Literal["training", "unlearning", "audit"]
LIMIT = 2**32


@dataclass
class Seeds(Component):
    """Seeds of parts of a run; one that is null is the run's `seed`, which also draws the splits and the forget set.

    Attributes:
        training: of the original, the retrained model and an unlearner's reference models: what exists apart from the
            unlearning.
        unlearning: of everything that the unlearner draws. Its streams depend on the seed of training as well: with
            each trained model it draws anew, so that unlearnings are nested in trainings.
        audit: of shadow models and shadow originals, of the attacks, and of the halves that choose their thresholds.

    References:
        [lanyon2025] J. Lanyon, A. Finke, P. Andreou and G. Cosma, "On the importance of multiple training seeds for
        evaluating machine unlearning", 2025, https://arxiv.org/abs/2510.26714.
    """

    training: int | None = option(None, at_least=0, below=LIMIT)
    unlearning: int | None = option(None, at_least=0, below=LIMIT)
    audit: int | None = option(None, at_least=0, below=LIMIT)

    def of(self, role: Role, seed: int) -> int:
        """Return the root of the random streams of a part, given the run's seed."""
        training, own = (seed if each is None else each for each in (self.training, getattr(self, role)))
        if role != "unlearning" or own == training:
            return own
        return int(seed_sequence(training, "unlearning", own).generate_state(1)[0])
