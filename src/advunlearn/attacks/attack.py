"""What an attack is: a membership-inference attack on a finished model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.statistics import cross_entropy
from advunlearn.options import Component
from advunlearn.runtime.arrays import Floats
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs

if TYPE_CHECKING:  # attacks on outputs need no torch
    from torch import nn

    from advunlearn.data.examples import Examples

STDERR = "stderr"  # reserved variant: the standard error of the primary score, not a score


@dataclass(frozen=True)
class Outputs:
    """A model's outputs on some examples: logits (n, queries, classes) float32, and the true labels (n,)."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    def losses(self) -> Floats:
        """Return the cross-entropy of each output, (n, queries); see `logit_margin` for errors."""
        return cross_entropy(self.logits, np.repeat(self.labels[:, None], self.logits.shape[1], axis=1))


@dataclass(frozen=True)
class WhiteBox:
    """The attacked model itself, for an attack with `needs_network`.

    Attributes:
        network: on its device, in evaluation mode; a copy, which the attack may change.
        examples: the n examples under attack, on the same device, in the order of the outputs; `examples.batches()`
            yields inputs as the network takes them, and labels.
        original: the original, which the attacked model was made from, likewise a copy; None unless the attack has
            `needs_original`.
    """

    network: nn.Module
    examples: Examples
    original: nn.Module | None = None


@dataclass(frozen=True)
class Observations(Outputs):
    """The outputs of the attacked model that an attack may use: on the examples under attack, and on other examples.

    Attributes:
        members: (n,) bool, True for forget examples and False for test examples; an attack that is fitted on them must
            score each example by a fit that did not use it.
        retain: the training examples that the model keeps; None if they are not available.
        population: non-members that are not among the n, the selection set; None if they are not available.
        white_box: the model and the n examples; None unless the attack has `needs_network`.
    """

    members: NDArray[np.bool_]
    retain: Outputs | None = None
    population: Outputs | None = None
    white_box: WhiteBox | None = None


class Attack(Component):
    """Base class of attacks. For every attack, a LARGER score means that the example is more likely a member.

    Attributes:
        needs_shadows: whether it uses shadow models.
        needs_originals: whether it uses shadow originals and their unlearned models; `score` then receives
            `UnlearnedOutputs`.
        needs_network: whether it is a white-box attack: it receives the model itself as `Observations.white_box`.
        needs_original: whether a white-box attack also uses the original, as `WhiteBox.original`. It compares two
            models, so that it says nothing of the original itself, and has no part in the gaps to the retrained model.
        needs_retain: whether it uses the outputs on the retain set, `Observations.retain`.
        needs_population: whether it uses the outputs on further non-members, `Observations.population`.
        cross_fitted: whether each of the n examples is scored by a fit on other examples among them; see
            `metrics.auc_interval`.
    """

    group: ClassVar[str] = "attack"

    needs_shadows: ClassVar[bool] = False
    needs_originals: ClassVar[bool] = False
    needs_network: ClassVar[bool] = False
    needs_original: ClassVar[bool] = False
    needs_retain: ClassVar[bool] = False
    needs_population: ClassVar[bool] = False
    cross_fitted: ClassVar[bool] = False

    def check(self, members: NDArray[np.bool_]) -> None:
        """Raise a UserError, in one line, if this attack cannot work with so few members or non-members (n,)."""

    def score(self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator) -> dict[str, Floats]:
        """Return member scores (n,) by variant; the attack's primary score has the empty name.

        NaN marks an example that the attack cannot score; the evaluation leaves it out and counts it. The reserved
        variant `STDERR` is the standard error (n,) of the primary score over other shadow models, NaN if there are too
        few; it is stored with the scores and not evaluated.
        """
        raise NotImplementedError

    def figures(self, target: Observations) -> dict[str, float]:
        """Return further metrics of the model that the attack's paper reports, by name; none by default."""
        return {}

    def audit(self, shadows: UnlearnedOutputs, labels: NDArray[np.int64]) -> dict[str, dict[str, Floats]]:
        """Return results of an attack on the unlearning algorithm itself, by question and by model; none by default.

        The model is the `original`, a `retrained` or the `unlearned` model.

        Each array is (2, k, n): the scores of the examples that k originals forgot, LARGE if they are unlearned, and
        the scores of the examples that they are compared with, each by a fit that used neither. NaN if not defined.

        Args:
            shadows: of k originals.
            labels: (n,), of the examples.
        """
        return {}
