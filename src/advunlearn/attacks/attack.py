"""What an attack is: a membership-inference attack on a finished model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.statistics import Array, cross_entropy
from advunlearn.options import Component
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs

STDERR = "stderr"  # reserved among variants: the primary score's standard error, which is no score


@dataclass(frozen=True)
class Answers:
    """What a model says of some examples: logits (n, queries, classes) float32, beside their true labels (n,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def losses(self) -> Array:
        """Return the cross-entropy of each answer, (n, queries); see `logit_margin` for errors."""
        return cross_entropy(self.logits, np.repeat(self.labels[:, None], self.logits.shape[1], axis=1))


@dataclass(frozen=True)
class Observations(Answers):
    """What an attack may ask the model that it attacks: of the examples to tell apart, and of others to compare with.

    Attributes:
        members: (n,) bool, True for forget examples and False for test examples; an attack that is fitted on them must
            score each example by a fit that never saw it.
        retain: the training examples that the model keeps; None where they are not at hand.
        population: non-members that are not among the n, the selection set; None where they are not at hand.
    """

    members: NDArray[np.bool_]
    retain: Answers | None = None
    population: Answers | None = None


class Attack(Component):
    """Base of all attacks. A score is LARGE where the example is more likely a member, without exception.

    Attributes:
        needs_shadows: does it compare with shadow models?
        needs_originals: does it compare with shadow originals that are unlearned? Its shadow models are then the
            unlearned ones, `UnlearnedOutputs`.
        cross_fitted: is each of the n examples scored by a fit on others of them, members and non-members? See
            `metrics.auc_interval`.
    """

    group: ClassVar[str] = "attack"

    needs_shadows: ClassVar[bool] = False
    needs_originals: ClassVar[bool] = False
    cross_fitted: ClassVar[bool] = False

    def check(self, members: NDArray[np.bool_]) -> None:
        """Raise a ValueError, in one line, where this attack cannot tell so few members (n,) from the rest."""

    def score(
        self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return member scores (n,) by variant; the attack's primary score has the empty name.

        NaN marks an example that the attack has nothing to say about; the evaluation leaves it out and counts it.
        `STDERR` is no variant but how far the primary score would move with other shadow models: its standard error
        (n,), NaN where too few say it; it is kept beside the scores and not evaluated.
        """
        raise NotImplementedError

    def figures(self, target: Observations) -> dict[str, float]:
        """Return what else the attack's paper reports of the model, by name; nothing unless an attack says so."""
        return {}

    def audit(self, shadows: UnlearnedOutputs, labels: NDArray[np.int64]) -> dict[str, dict[str, Array]]:
        """Return what the attack finds of the unlearning algorithm, by question and by model.

        The model, in the place of the unlearned one, is the `original`, a `retrained` or the `unlearned` model. The
        result is empty unless an attack overrides this method.

        Each is (2, k, n): the scores of what k originals forgot, LARGE where they are unlearned, and those of what has
        to be told from it, each by a fit that saw neither. NaN where there is none.

        Args:
            shadows: of k originals.
            labels: (n,), of the examples.
        """
        return {}
