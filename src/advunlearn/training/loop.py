"""The epochs and steps of every training by gradient descent; an interrupted training resumes at its last step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from advunlearn.runtime.profiling import training
from advunlearn.runtime.progress import progress
from advunlearn.runtime.signals import halt_point
from advunlearn.training.checkpoint import Checkpoint, restore, state_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

FORMAT = 2  # of a checkpoint: raise it when the state of a training is made of other parts


class Loop(Generic[T]):
    """Yield each epoch with its batches; after every batch, a checkpoint can save the state.

    A checkpoint holds the epoch, how many of its batches are done, the state of the generators before these were drawn,
    and the parts. What a caller does at the end of an epoch is repeated if the process ended before the next step. So
    only the parts may carry state from one step to the next.

    Args:
        epochs: total number.
        draw: draws an epoch's batches and everything random about them, from `orders` only.
        orders: generators that the batches are drawn from, in a fixed order.
        parts: everything that the steps change: generators, tensors, and objects with `state_dict`.
        checkpoint: None keeps nothing.
        label: of the progress bar.
    """

    def __init__(
        self,
        epochs: int,
        draw: Callable[[], Sequence[T]],
        orders: Sequence[torch.Generator],
        parts: Mapping[str, Any],
        checkpoint: Checkpoint | None,
        label: str,
    ) -> None:
        self.epochs, self.draw, self.orders = epochs, draw, orders
        self.parts, self.checkpoint, self.label = parts, checkpoint, label

    def __iter__(self) -> Iterator[tuple[int, Iterator[T]]]:
        """Yield (epoch, its batches), starting at the first epoch that is not done."""
        first, done = self._restore()
        with training(self.label) as step:
            for epoch in progress(range(first, self.epochs), self.label, total=self.epochs, initial=first):
                before = [state_of(order) for order in self.orders]
                yield epoch, self._batches(epoch, before, done if epoch == first else 0, step)

    def _batches(self, epoch: int, before: list[Any], done: int, step: Callable[[], None]) -> Iterator[T]:
        for position, batch in enumerate(self.draw()):
            if position < done:
                continue
            step()
            yield batch
            if self.checkpoint is not None:
                self.checkpoint.step(partial(self._state, epoch, position + 1, before))
            halt_point()

    def _state(self, epoch: int, done: int, before: list[Any]) -> dict[str, Any]:
        parts = {name: state_of(part) for name, part in self.parts.items()}
        return {"format": FORMAT, "epoch": epoch, "done": done, "orders": before, "parts": parts}

    def _restore(self) -> tuple[int, int]:
        """Restore all parts; return the epoch to resume and how many of its batches are done."""
        state = self.checkpoint.read() if self.checkpoint is not None else None
        if state is None:
            return 0, 0
        if state.get("format") != FORMAT:
            logger.warning("%s: the checkpoint is from another version; the training starts again", self.label)
            return 0, 0
        for order, before in zip(self.orders, state["orders"], strict=True):
            restore(order, before)
        for name, part in self.parts.items():
            restore(part, state["parts"][name])
        return int(state["epoch"]), int(state["done"])
