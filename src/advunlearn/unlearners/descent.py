"""The loop of unlearning by gradient steps, and the parts of it that a method may override."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.data.inputs import Batch, same
from advunlearn.options import UserError
from advunlearn.runtime.curves import report
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.fit import Diverged, GlobalGenerators, forward_of, mode
from advunlearn.training.loop import Loop
from advunlearn.unlearners.best_epoch import BestEpoch
from advunlearn.unlearners.unlearner import Task, Unlearned

if TYPE_CHECKING:
    from advunlearn.unlearners.gradient import GradientUnlearner

STREAM = "unlearn"


class Follower(Protocol):
    """A player that answers the leader's steps."""

    def answer(self, step: int, epoch: int, base_loss: Tensor, lr: float) -> None:
        """Answer the gradients of the base loss, which are in the network's parameters, for a step of rate `lr`.

        The answer is added to them, or taken as a separate step.
        """

    def trace(self) -> dict[str, Any]:
        """Return the recorded columns, each a list of values."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""


class Descent:
    """The gradient steps of a method on one network; a method that needs more than its `loss` defines a subclass.

    The given network is the original, also when an interrupted unlearning resumes. Therefore `prepare` computes the
    same again, and `parts` needs only the state that changes from step to step.

    Attributes:
        examples: those of the method; positions below `kept` are retain examples, the others forget examples.
        order, augment: random generators of batches and of augmentation.
        epoch: the current epoch; the first is 0.
        steps: number of steps in all epochs.
        frozen: modules that are not trained; see `freeze`.
    """

    def __init__(self, method: GradientUnlearner, network: nn.Module, task: Task) -> None:
        self.method, self.network, self.task = method, network, task
        self.examples = method.examples(task)
        self.kept = _retained(self.examples, task, method.parts_read())
        self.order = torch_stream(task.settings.seed, f"batches/{STREAM}")
        self.augment = torch_stream(task.settings.seed, f"augment/{STREAM}")
        self.epoch = 0
        self.steps = sum(len(method.epoch_sizes(task, epoch)) for epoch in range(method.epochs))
        self.frozen: list[nn.Module] = []

    def prepare(self) -> None:
        """Compute what the steps need from the original network, or change the network, before the first step."""

    def freeze(self, modules: list[nn.Module]) -> None:
        """Exclude modules from training: neither their parameters nor their running statistics change."""
        self.frozen = modules
        for module in modules:
            module.requires_grad_(False)

    def parts(self) -> dict[str, Any]:
        """Return the state that changes from step to step, without the network's, for a checkpoint; see `Loop`."""
        return {}

    def choice(self) -> BestEpoch | None:
        """Return the object that chooses an epoch; None keeps the last epoch."""
        return BestEpoch(self.network, self.task) if self.method.keep_epoch == "best" else None

    def goes_on(self) -> bool:
        """Return whether to run the current epoch; also called when an interrupted epoch resumes."""
        return True

    def draw(self) -> list[Tensor]:
        """Return the batches of the current epoch, each as the draws that `Examples.training_batch` takes."""
        return self.drawn(self.method.rows(self.task))

    def drawn(self, rows: Tensor | None, batch_size: int | None = None) -> list[Tensor]:
        """Return the batches of one pass through these positions, None for all, in random order."""
        size = batch_size or self.method.batch_size
        return self.examples.cut(self.examples.draw(size, self.order, self.augment, rows), size)

    def cycled(self, rows: Tensor, count: int) -> list[Tensor]:
        """Return `count` batches of these positions, from as many passes as needed."""
        batches: list[Tensor] = []
        while len(batches) < count:
            batches += self.drawn(rows)
        return batches[:count]

    def paired(self, passed: Tensor, cycled: Tensor) -> list[Tensor]:
        """Return the batches of one pass through `passed`, each joined with one of the repeated passes of `cycled`."""
        batches = self.drawn(passed)
        return [torch.cat(pair, -1) for pair in zip(batches, self.cycled(cycled, len(batches)), strict=True)]

    def retained(self) -> Tensor:
        """Return the positions of the retain examples."""
        return torch.arange(self.kept)

    def forgotten(self) -> Tensor:
        """Return the positions of the forget examples."""
        return torch.arange(self.kept, len(self.examples))

    def batch_loss(self, draws: Tensor) -> Tensor:
        """Return the loss of a batch, given its draws; overridden if `loss` has too few arguments for a method."""
        inputs, labels = self.examples.training_batch(draws)
        return self.loss(inputs, self.logits(inputs), labels, draws[0] >= self.kept)

    def logits(self, inputs: Batch) -> Tensor:
        """Return the network's logits (n, classes), float32, in training mode."""
        with self._training(), self.task.settings.autocast():
            logits = self._forward(inputs)
        return logits.float()

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the loss of a batch: that of the task, or the method's, unless overridden."""
        if self.task.loss is not None:
            return self.task.loss(logits, labels)
        return self.method.loss(logits, labels, forgotten)

    def differentiate(self, loss: Tensor) -> Tensor:
        """Compute the gradients of the loss into the parameters' `grad`; return the loss, a scalar."""
        loss.backward()
        return loss.detach()

    def step(self, optimizer: torch.optim.Optimizer, forgotten: Tensor, answer: Callable[[], None]) -> None:
        """Take a step with the gradients of a batch, after the follower's answer.

        Args:
            optimizer: of the network's parameters.
            forgotten: (n,) bool, which examples of the batch are forget examples.
            answer: lets the follower answer.
        """
        answer()
        optimizer.step()

    def run(self, follower: Callable[[], Follower] | None = None) -> Unlearned:
        """Return the network after the last epoch, or after the chosen one."""
        needed = {parameter: parameter.requires_grad for parameter in self.network.parameters()}
        try:
            self.prepare()
            return self._run(follower() if follower is not None else None)
        finally:
            for parameter, was_needed in needed.items():
                parameter.requires_grad_(was_needed)

    def _run(self, follower: Follower | None) -> Unlearned:
        self._optimizer, self._schedule = self._steps()
        self._forward = forward_of(self.network, self.task.settings, self.method.batch_size)
        self._last_loss = torch.zeros((), device=self.examples.labels.device)
        choice = self.choice()
        orders = [self.order, self.augment]
        parts = self._all_parts(follower, choice)
        for epoch, batches in Loop(self.method.epochs, self.draw, orders, parts, self.task.checkpoint, STREAM):
            self.epoch = epoch
            if not self.goes_on():
                break
            for batch in batches:
                self._batch(batch, follower)
            loss = self._last_loss.item()
            if not math.isfinite(loss):
                raise Diverged(f"unlearning diverged (loss {loss})")
            report("train/unlearned", epoch, {"loss": loss})
            if choice is not None:
                choice.judge(self._schedule.last_epoch)
        trace = follower.trace() if follower is not None else {}
        if choice is not None:
            if not choice.records:  # stopped before the first epoch
                choice.judge(0)
            choice.restore()
            trace |= choice.trace()
        return Unlearned(self.network.eval(), trace)

    def _steps(self) -> tuple[torch.optim.Optimizer, LambdaLR]:
        if self.task.optimizer is None:
            return self.method.optimizer().create(self.network.parameters(), self.steps)
        own = self.task.optimizer(self.network.parameters())
        return own, LambdaLR(own, lambda _: 1.0)

    def _all_parts(self, follower: Follower | None, choice: BestEpoch | None) -> dict[str, Any]:
        return {
            "network": self.network,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "loss": self._last_loss,
            "global": GlobalGenerators(self._last_loss.device),
            **self.parts(),
            **({"follower": follower} if follower is not None else {}),
            **({"best": choice} if choice is not None else {}),
        }

    def _batch(self, batch: Tensor, follower: Follower | None) -> None:
        loss = self.batch_loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        value = self.differentiate(loss)
        self.step(self._optimizer, batch[0] >= self.kept, partial(self._answer, follower, value))
        self._schedule.step()
        self._last_loss.copy_(value)

    def _answer(self, follower: Follower | None, value: Tensor) -> None:
        if follower is not None:
            follower.answer(self._schedule.last_epoch, self.epoch, value, float(self._schedule.get_last_lr()[0]))

    @property
    def progress(self) -> float:
        """Return the share of all steps that have been taken."""
        schedule: LambdaLR = self._schedule
        return schedule.last_epoch / self.steps

    @contextmanager
    def _training(self) -> Iterator[None]:
        with mode(self.network, training=True):
            for module in self.frozen:
                module.training = False
            yield


class AtEpoch:
    """A number that is measured once, at the start of each epoch; a resumed epoch keeps its number."""

    def __init__(self) -> None:
        self.epoch, self.value = -1, 0.0

    def of(self, epoch: int, measure: Callable[[], float]) -> float:
        """Return the number that was measured at the start of this epoch; measure it if it was not."""
        if epoch != self.epoch:
            self.epoch, self.value = epoch, measure()
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for a checkpoint."""
        return {"epoch": self.epoch, "value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.epoch, self.value = state["epoch"], state["value"]


def capped(losses: Tensor, classes: int, ceiling: float = 1.0) -> Tensor:
    """Return the losses, clipped at `ceiling` times the loss of a uniform prediction: ascent ends there.

    Args:
        losses: cross-entropies or divergences, (n,).
        classes: the number of classes; the loss of a uniform prediction is log(classes).
        ceiling: the factor.
    """
    return losses.clamp(max=ceiling * math.log(classes))


def sampled_rows(task: Task, share: float, stream: str) -> Tensor:
    """Return the positions of a random share of the retain set, at least one, followed by those of the forget set."""
    kept = len(task.retain)
    generator = torch_stream(task.settings.seed, stream)
    sample = torch.randperm(kept, generator=generator)[: max(1, round(share * kept))]
    return torch.cat([sample, kept + torch.arange(len(task.forget))])


def cycled_sizes(examples: int, count: int, batch_size: int) -> list[int]:
    """Return the sizes of the `count` batches that `Descent.cycled` returns for a number of examples."""
    sizes = batch_sizes(examples, batch_size)
    return [sizes[n % len(sizes)] for n in range(count)]


def paired_sizes(passed: int, cycled: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches that `Descent.paired` returns for the numbers of examples of both sets."""
    sizes = batch_sizes(passed, batch_size)
    return [one + other for one, other in zip(sizes, cycled_sizes(cycled, len(sizes), batch_size), strict=True)]


def _retained(examples: Examples, task: Task, reads: tuple[str, ...]) -> int:
    """Return how many examples, the first ones, belong to the retain set; the others are forget examples.

    Raises:
        UserError: if it is neither none nor the whole retain set.
    """
    if "retain" not in reads:
        return 0
    kept = len(task.retain)
    if len(examples) >= kept and same(examples.subset(torch.arange(kept)).inputs, task.retain.inputs):
        return kept
    if "forget" in reads and same(examples.inputs, task.forget.inputs):
        return 0
    raise UserError("examples must return the retain set, the forget set, or both: the retain set first")
