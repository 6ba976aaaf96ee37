"""The interface of unlearners: the leader of the game, or a baseline."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advunlearn.auditors.auditor import ReferenceRows
from advunlearn.data.examples import Examples
from advunlearn.options import Component, UserError
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import Diverged, first_logits, largest, predict, seeded

logger = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

PARTS = ("retain", "forget", "audit", "selection")
SAMPLE = 1000  # retain examples on which the networks before and after unlearning are compared


class Training(Protocol):
    """The training of the original."""

    def earlier(self, share: float) -> nn.Module:
        """Return the original as it was after a share of its epochs, by training these epochs again.

        Args:
            share: from 0 to 1.
        """

    def shards(self, count: int) -> Iterator[nn.Module]:
        """Yield a model for each of `count` random shards of the training examples, trained without forget examples.

        The shards do not depend on the forget set. The model of a shard without forget examples does not either.

        Raises:
            UserError: if all examples of a shard are forget examples.
        """


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
        training: the original's training, which can be repeated in part; None without a training setup, and if the
            original is given.
        references: the outputs of the unlearner's reference models on the forget and on the audit examples; None if it
            uses none, or without a training setup.
        checkpoint: from which an interrupted unlearning resumes; None keeps nothing.
        loss: returns a scalar from logits (n, classes) and labels (n,); it replaces the cross-entropy. None keeps the
            cross-entropy.
        optimizer: creates the torch optimizer of gradient steps; None creates that of the unlearner's options.
    """

    retain: Examples
    forget: Examples
    audit: Examples
    settings: Settings
    selection: Examples | None = None
    retrain: Callable[[str], nn.Module] | None = None
    training: Training | None = None
    references: tuple[ShadowOutputs, ShadowOutputs] | None = None
    checkpoint: Checkpoint | None = None
    loss: Loss | None = None
    optimizer: MakeOptimizer | None = None


@dataclass(frozen=True)
class Unlearned:
    """An unlearner's result.

    Attributes:
        network: without the forget set's influence, in evaluation mode.
        trace: the columns that the game records, each a list of values; `epochs`, the columns that the choice of an
            epoch records; `collapsed`, True if the network has collapsed. Each is present only where it applies.
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
    """Base class of unlearners.

    Attributes:
        reads: names of the parts of the data that it uses, among `retain`, `forget`, `audit` and `selection`. `run`
            withholds the other parts.
    """

    group: ClassVar[str] = "unlearner"
    reads: ClassVar[tuple[str, ...]] = PARTS

    def parts_read(self) -> tuple[str, ...]:
        """Return the names of the parts of the data that it uses with these options."""
        return self.reads

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Raise a UserError, in one line, if this unlearner cannot work with these labels, for example too few.

        Args:
            labels: of each part, (n,): `retain`, `forget`, `audit`, and `selection` if there is one.
        """

    def check_network(self, network: nn.Module) -> None:
        """Raise a UserError, in one line, if this unlearner cannot work with the network."""

    def run(self, network: nn.Module, task: Task) -> Unlearned:
        """Call `unlearn` with the random stream of unlearning, and check its result.

        Raises:
            UserError: if the forget set or the retain set is empty, if the network cannot be used, if the unlearner
                uses a part that is not in `parts_read`, and if the result is not an `Unlearned`.
            Diverged: if the unlearned logits are not finite; `Unsound` if the given network is the reason.
        """
        _check_task(task)
        self.check_network(network)
        sample = _sample(task.retain)
        before = largest(first_logits(network, task.retain))
        known = accuracy(network, sample)
        try:
            unlearned = self._unlearned(network, task)
            if math.isinf(largest(first_logits(unlearned.network, task.retain))):
                raise Diverged("unlearning diverged (infinite logits)")
        except Diverged as error:
            raise self._blamed(error, before) from error
        if _collapsed(known, accuracy(unlearned.network, sample), sample.labels):
            unlearned = replace(unlearned, trace={**unlearned.trace, "collapsed": True})
        return unlearned

    def _unlearned(self, network: nn.Module, task: Task) -> Unlearned:
        with seeded(task.settings, "unlearn"):
            unlearned = self.unlearn(network, self._seen(task))
        if not isinstance(unlearned, Unlearned):
            name, got = type(self).__name__, type(unlearned).__name__
            raise UserError(f"{name}.unlearn must return Unlearned(network), got {got}")
        return unlearned

    def _blamed(self, error: Diverged, before: float) -> Diverged:
        """Return the error with its cause: the given network, whose logits reach `before`, or an option."""
        if before > SOUND:
            return Unsound(f"the model had diverged before unlearning (its logits reach {before:.1e})")
        return Diverged("; ".join(filter(None, [str(error), self.too_large()])))

    def _seen(self, task: Task) -> Task:
        """Return the task without the parts of the data that this unlearner does not use."""
        read, name = self.parts_read(), type(self).__name__
        hidden: dict[str, Any] = {part: Withheld(name, part) for part in PARTS if part not in read}
        return replace(task, **hidden)

    def too_large(self) -> str:
        """Return what to lower if this unlearner diverges, such as `lower unlearner.lr=0.1`; empty if unknown."""
        return ""

    def reference_models(self) -> int:
        """Return how many reference models it uses, trained on random training and audit examples."""
        return 0

    def reference_rows(self) -> ReferenceRows:
        """Return on how many rows each is trained; see `Auditor.reference_rows`."""
        return "half"

    def repeats_training(self) -> bool:
        """Return whether it needs `Task.training`, which is None if the original is given."""
        return False

    def steps(self, task: Task) -> list[Steps] | None:
        """Return the steps that `unlearn` takes, by their cost; None if that is unknown.

        To be timed, each step must call `task.checkpoint.step` at its end, as `Loop` does.
        """
        return None

    def result(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Return a network with the architecture of `unlearn`'s result, into which stored weights can be loaded.

        Args:
            build: returns a network with the architecture of the original, which is the default.
        """
        return build()

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return a network without the forget set's influence; the given one is changed in place."""
        raise NotImplementedError


class Withheld:
    """Replaces a part of the data that an unlearner does not read; any use of it is an error."""

    def __init__(self, unlearner: str, part: str) -> None:
        self._error = f"{unlearner} does not read the {part} set (if it is to, add {part!r} to its `reads`)"

    def __getattr__(self, name: str) -> Any:
        raise UserError(self._error)

    def __len__(self) -> int:
        raise UserError(self._error)


def ordered(parts: Iterable[str]) -> tuple[str, ...]:
    """Return names of parts in the order of `PARTS`."""
    named = set(parts)
    return tuple(part for part in PARTS if part in named)


def _check_task(task: Task) -> None:
    if len(task.forget) == 0:
        raise UserError("the forget set is empty: there is nothing to forget")
    if len(task.retain) == 0:
        raise UserError("the forget set is the whole training set: there is nothing to retain (forget less)")


def accuracy(network: nn.Module, examples: Examples) -> float:
    """Return the share of correct predictions."""
    return (predict(network, examples).argmax(1) == examples.labels.cpu()).double().mean().item()


def _sample(retain: Examples) -> Examples:
    """Return retain examples evenly spaced, since a dataset may be sorted by class."""
    return retain.subset(torch.linspace(0, len(retain) - 1, min(SAMPLE, len(retain))).long())


def _collapsed(before: float, after: float, labels: Tensor) -> bool:
    """Return, and log, whether the accuracy has fallen to that of a constant prediction, and was above it.

    Args:
        before, after: accuracies on examples with these labels, before and after unlearning.
        labels: (n,).
    """
    guess = labels.bincount().max().item() / len(labels)
    if not after <= guess < before:
        return False
    words = "unlearning collapsed: accuracy on retain examples fell from %.3f to %.3f; one class for all reaches %.3f"
    logger.warning(words, before, after, guess)
    return True
