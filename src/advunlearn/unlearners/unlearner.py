"""The interface of unlearners: the leader of the game, or a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.data.examples import Examples
from advunlearn.options import Component, UserError
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import Diverged, first_logits, largest, seeded


@dataclass(frozen=True)
class Task:
    """A request to forget: everything that an unlearner may use besides the model itself.

    Attributes:
        retain, forget: the training examples to keep and to remove.
        audit: held-out non-members that the game's auditor may see.
        settings: device, precision, seed.
        selection: held-out non-members on which an unlearner may choose among its own epochs; None if not given.
        retrain: trains a model from scratch on the retain set, from a random stream of its own; None without a training
            setup, as for the caller's own model in the Python API.
        references: the outputs of the unlearner's reference models on the forget and on the audit examples; None if it
            uses none, or without a training setup.
        checkpoint: from which an interrupted unlearning resumes; None keeps nothing.
    """

    retain: Examples
    forget: Examples
    audit: Examples
    settings: Settings
    selection: Examples | None = None
    retrain: Callable[[str], nn.Module] | None = None
    references: tuple[ShadowOutputs, ShadowOutputs] | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Unlearned:
    """An unlearner's result.

    Attributes:
        network: without the forget set's influence, in evaluation mode.
        trace: columns of the game, each a list of values, and under `epochs` the choice of an epoch; empty without
            either.
    """

    network: nn.Module
    trace: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """Steps of an unlearner with the same cost, for an estimate of its time.

    Attributes:
        count: how many there are.
        examples: how many each step passes through the network, forward and backward.
        unlearner: an unlearner with such steps only.
    """

    count: int
    examples: int
    unlearner: Unlearner


class Unsound(Diverged):
    """The model had already diverged before unlearning."""


SOUND = 1e4  # logits of a trained model; 100 times those of models with a training loss of 1e-6


class Unlearner(Component):
    """Base class of unlearners."""

    group: ClassVar[str] = "unlearner"

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Raise a UserError, in one line, if this unlearner cannot work with these labels, for example too few.

        Args:
            labels: of each part, (n,): `retain`, `forget`, `audit`, and `selection` if there is one.
        """

    def run(self, network: nn.Module, task: Task) -> Unlearned:
        """Call `unlearn` with the random stream of unlearning, and check its result.

        Raises:
            UserError: if the result is not an `Unlearned`.
            Diverged: if the unlearned logits are not finite; `Unsound` if the given network is the reason.
        """
        before = largest(first_logits(network, task.retain))
        try:
            with seeded(task.settings, "unlearn"):
                unlearned = self.unlearn(network, task)
            if isinstance(unlearned, Unlearned) and math.isinf(largest(first_logits(unlearned.network, task.retain))):
                raise Diverged("unlearning diverged (infinite logits)")
        except Diverged as error:
            if before > SOUND:
                raise Unsound(f"the model had diverged before unlearning (its logits reach {before:.1e})") from error
            raise Diverged("; ".join(filter(None, [str(error), self.too_large()]))) from error
        if not isinstance(unlearned, Unlearned):
            name, got = type(self).__name__, type(unlearned).__name__
            raise UserError(f"{name}.unlearn must return Unlearned(network), got {got}")
        return unlearned

    def too_large(self) -> str:
        """Return what to lower if this unlearner diverges, such as `lower unlearner.lr=0.1`; empty if unknown."""
        return ""

    def reference_models(self) -> int:
        """Return how many reference models it uses, trained on random halves of the training and audit examples."""
        return 0

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the steps that `unlearn` takes, by their cost; None if that is unknown.

        To be timed, each step must call `task.checkpoint.step` at its end, as `Loop` does.
        """
        return None

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return a network without the forget set's influence; the given one is changed in place."""
        raise NotImplementedError
