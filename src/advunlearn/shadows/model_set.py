"""Sets of models that differ only in their index, trained through the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from advunlearn.data.examples import QUERIES
from advunlearn.options import Component, UserError, option
from advunlearn.runtime.memory import DeviceFull
from advunlearn.runtime.on_devices import run_on_devices
from advunlearn.runtime.progress import progress
from advunlearn.runtime.shared import Unsendable
from advunlearn.runtime.threads import one_thread
from advunlearn.runtime.workers import run_tasks
from advunlearn.storage.artefacts import Artefact
from advunlearn.training import stack
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer

logger = logging.getLogger(__name__)

# Models fitted as one: multiples of every CPU's vector width, so that a model's position in a stack does not matter.
# The first two stacks are small, for sets of few models; for the others, a larger size is not faster.
STACK, LARGE_STACK = 16, 32


@dataclass
class ShadowOptions(Component):
    """The number of shadow models and how they are queried, for all attacks of a run.

    Attributes:
        shadows: models; an even number, so that every example is IN exactly half of them.
        originals: shadow originals, each of which is also unlearned; an even number likewise. See `OriginalSet`.
        queries: number of views of an example, of `QUERIES`: the image, its mirror image, shifts.
        stacked: fit many models as one; null: where that is faster.
        retrained: retrained models of the run: 1, or at least 3. All but the last are the gold standard of the control,
            which is the last one in the place of the unlearned model; see `evaluation/control.py`.
        shard: `i/n` trains the i-th of n parts of the models and stops, so that several processes or machines fill one
            store.
    """

    shadows: int = option(128, at_least=0, even=True)
    originals: int = option(64, at_least=4, even=True)
    queries: int = option(1, at_least=1, at_most=len(QUERIES))
    stacked: bool | None = None
    shard: str | None = None
    retrained: int = option(1, at_least=1)

    def conflicts(self) -> list[str]:
        """Return a line for an invalid shard, and for two retrained models: a difference without a spread."""
        number, shards = self.part
        wrong = not 1 <= number <= shards
        lines = [f"shard must be i/n with i from 1 to n, got {self.shard} (try shard=1/2)"] if wrong else []
        return [
            *lines,
            *(["retrained must be 1 or at least 3, got 2 (try retrained=3)"] if self.retrained == 2 else []),
        ]

    @property
    def repeats(self) -> tuple[str, ...]:
        """Return the names of the retrained models beyond the first."""
        return tuple(f"repeat{index}" for index in range(1, self.retrained))

    @property
    def part(self) -> tuple[int, int]:
        """Return the number of the shard, from 1, and the number of shards; (0, 0) if the text is not a valid shard."""
        found = re.fullmatch(r"(\d+)/(\d+)", self.shard or "1/1")
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def identity(self) -> dict[str, Any]:
        """Return what changes a result: the options' part in the store's keys."""
        return {"shadows": self.shadows, "queries": self.queries, "stacked": [self.stacked, stack.SCHEMA]}


@dataclass(frozen=True)
class ModelSet:
    """Base class of sets of models that differ only in their index; the store keeps the outputs of each model.

    A network may have 45 MB and its logits on 60,000 images 2.4 MB, and no attack needs more.
    """

    trainer: Trainer
    options: ShadowOptions

    @property
    def kind(self) -> str:
        """Return the kind of these models in the store."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """Return how many models are needed."""
        raise NotImplementedError

    def key(self, index: int) -> dict[str, Any]:
        """Return everything that determines the outputs of model `index`."""
        raise NotImplementedError

    def make(self, group: Sequence[int]) -> Iterator[Artefact]:
        """Train models and yield the outputs of each, with its share of the training seconds."""
        raise NotImplementedError

    @cached_property
    def stacked(self) -> bool:
        """Return whether the models are fitted in stacks."""
        if self.options.stacked is None:
            return self.trainer.policy.stacks
        if self.options.stacked and not self.trainer.policy.try_stack():
            raise UserError("attack.stacked=true: these networks cannot be fitted as one (try attack.stacked=null)")
        return self.options.stacked

    @property
    def rounding(self) -> bool | list[int]:
        """Return what decides how sums are rounded, a part of keys: whether models are stacked, and how."""
        return self.stacked and [STACK, stack.SCHEMA]

    def fit(
        self, rows: Sequence[NDArray[np.int64]], stream: str, group: Sequence[int], whole: Checkpoint
    ) -> list[tuple[nn.Module, dict[str, Any]]]:
        """Return networks trained on these rows, as one if models are stacked; see `Trainer.fitted`.

        Args:
            group: one model, unless they are stacked; see `group`.
            whole: the checkpoint of the group; this training uses a part of it.
        """
        checkpoint = whole.part(stream.replace("/", "-"))
        if self.stacked:
            return self.trainer.fitted_stack(rows, stream, group, checkpoint=checkpoint)
        ((only, index),) = zip(rows, group, strict=True)
        return [self.trainer.fitted(only, stream, index, checkpoint=checkpoint)]

    def checkpoint(self, index: int) -> Checkpoint:
        """Return the checkpoint of the trainings for the outputs of model `index`."""
        return self.trainer.checkpoint(self.kind, self.key(index))

    def train(self) -> None:
        """Train the models of this shard that the store does not hold, on all cores or GPUs; each is stored when done.

        Stacks are always complete, even if fewer models are needed: rounding depends on the position in the stack and
        on its size, and a model must not depend on the number of models.
        """
        number, shards = self.options.part
        of_shard = list(self.groups())[number - 1 :: shards]
        groups = [group for group in of_shard if not self.trainer.store.holds(self.kind, map(self.key, group))]
        if not groups:
            return
        groups.sort(key=len, reverse=True)  # the long ones first, so that all workers finish at about the same time
        bar = progress(range(sum(map(len, groups))), f"{self.name} models")
        with closing(self._finished(groups)) as done:
            for trained in done:
                bar.update(trained)
        bar.close()

    @property
    def name(self) -> str:
        """Return the kind of these models in words."""
        return self.kind.replace("_", " ")

    def _finished(self, groups: Sequence[range]) -> Generator[int, None, None]:
        """Train these groups; yield how many models each has, when it is done."""
        policy = self.trainer.policy
        if len(devices := policy.devices[: len(groups)]) > 1:
            logger.info("%d %s models on %s", sum(map(len, groups)), self.name, ", ".join(devices))
            try:
                yield from run_on_devices(self.finish, groups, self.trainer.settings, devices)
            except Unsendable as error:
                logger.warning("one device trains all %s models, as another process cannot (%s)", self.name, error)
            else:
                return
        policy.warm_up()  # once, and not in every worker
        yield from run_tasks([partial(self.finish, group) for group in groups], min(policy.workers, len(groups)))

    def finish(self, group: range) -> int:
        """Train the models of a group, unless another process does, and store each; return how many they are."""
        self.trainer.policy.warm_up()
        self.trainer.store.make_missing(self.kind, list(map(self.key, group)), lambda: self._made(group))
        return len(group)

    def _made(self, group: range) -> Iterator[Artefact]:
        """Yield what `make` yields.

        Raises:
            DeviceFull: in one line, if the memory of a GPU is not enough.
        """
        try:
            yield from self.make(group)
        except torch.OutOfMemoryError as error:
            device, what = self.trainer.settings.torch_device(), f"one of the {self.name} models (try smaller batches)"
            if self.stacked and self.options.stacked is not False and self.kind in ("shadow", "shadow_original"):
                what = f"a stack of {len(group)} {self.name} models (try attack.stacked=false)"
            raise DeviceFull(f"{device}: its memory is not enough for {what}") from error

    def group(self, index: int) -> range:
        """Return the models that are fitted together with this one."""
        if not self.stacked:
            return range(index, index + 1)
        size = STACK if index < LARGE_STACK else LARGE_STACK
        first = index - index % size
        return range(first, first + size)

    def groups(self) -> Iterator[range]:
        """Yield all groups in order; the last one may hold more models than are needed."""
        start = 0
        while start < self.count:
            yield (group := self.group(start))
            start = group.stop

    def outputs(self) -> Iterator[Artefact]:
        """Yield the outputs of each model in order; a model that the store does not hold is trained now."""
        self.train()
        for group in self.groups():
            keys = list(map(self.key, group))
            for index in group[: self.count - group.start]:
                yield self.one(group, keys, index)

    def one(self, group: range, keys: Sequence[Mapping[str, Any]], index: int) -> Artefact:
        """Return the outputs of a model; its group is trained here if another process failed, or if it is damaged."""
        with one_thread():
            return self.trainer.store.get_one(self.kind, keys, index - group.start, lambda: self._made(group))

    def cost(self, outputs: Sequence[Artefact]) -> float:
        """Return the recorded seconds of all trainings, including the models of a stack beyond those needed."""
        trained = self.group(len(outputs) - 1).stop
        return sum(each.record["seconds"] for each in outputs) * trained / len(outputs)
