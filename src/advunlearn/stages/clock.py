"""Time a few steps of a run's work with the same code, without side effects."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from advunlearn.data.examples import batch_sizes
from advunlearn.runtime.curves import unheard
from advunlearn.runtime.seeding import clean_state
from advunlearn.runtime.workers import run_tasks
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import Diverged, seeded
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.unlearner import Steps, Task, Unlearner

SLICE, LONGEST_SLICE = 0.05, 0.5  # seconds of steps that are timed, of each kind
LONGEST_STEP = 1.0  # seconds; of a step that takes longer, a part is timed
SHARE = 0.01  # of the work that is estimated, for timing each kind of it
MOST_STEPS = 64
STREAM = "estimate"


class _Enough(Exception):
    """The stopwatch has seen enough steps."""


class Stopwatch(Checkpoint):
    """A checkpoint that times the first of a training's `steps`, and ends the training after a slice of time."""

    def __init__(self, device: torch.device, steps: int) -> None:
        super().__init__(Path(), 0.0)
        self.device, self.steps = device, steps
        self.count = 0
        self.start = self.first = time.perf_counter()

    def part(self, name: str) -> Checkpoint:
        """Return the same stopwatch; see `Checkpoint.part`."""
        return self

    def read(self) -> None:
        """Return no state: a timed training starts at its first step."""

    def step(self, state: Callable[[], Any]) -> None:
        """Note the time after a step; the first one includes the set-up, so it takes one more to know their pace."""
        self.count += 1
        if self.count == 1:
            self.first = self._now()
            return
        spent = time.perf_counter() - self.first
        if spent >= min(max(SHARE * self.steps * spent / (self.count - 1), SLICE), LONGEST_SLICE):
            raise _Enough

    def pace(self, run: Callable[[], Any]) -> Pace:
        """Run a function that calls `step`, until there were enough steps or it ends; return its pace.

        Raises:
            ValueError: if it took no step.
        """
        with suppress(_Enough, Diverged):
            run()
        if self.count == 0:
            raise ValueError("no step was timed")
        last, before_second = self._now(), self.first - self.start
        step = (last - self.first) / (self.count - 1) if self.count > 1 else before_second
        return Pace(max(before_second - step, 0.0), step)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class Pace:
    """Seconds of the set-up and of each step."""

    setup: float
    step: float

    def seconds(self, steps: int) -> float:
        """Return the seconds that so many steps take."""
        return self.setup + steps * self.step


@dataclass(frozen=True)
class Clock:
    """Time the trainings of an experiment.

    Nothing is timed twice, or before it is needed. Compilation by `compile=true` is not included: it takes longer than
    an estimate may take.
    """

    trainer: Trainer
    _groups: dict[tuple[int, int, int, bool], Pace] = field(default_factory=dict)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Restore every global random generator at the end, and keep remarks and curves out of all logs."""
        remarks = logging.getLogger("advunlearn.unlearners")
        level = remarks.level
        remarks.setLevel(logging.WARNING)
        try:
            with clean_state(self.trainer.settings.seed), seeded(self.trainer.settings, STREAM), unheard():
                yield
        finally:
            remarks.setLevel(level)

    @property
    def batch_size(self) -> int:
        """Return the examples of a training's largest batch."""
        return min(self.trainer.optimizer.batch_size, len(self.trainer.examples))

    @cached_property
    def _single(self) -> tuple[int, Pace]:
        """Return the largest batch size with a step that is not too long, and the pace of one network with it."""
        self.trainer.policy.warm_up()
        batch_size = min(4, self.batch_size)
        while True:
            pace = self._pace(batch_size, 1, stacked=False)
            whole = pace.step * self.batch_size / batch_size
            if batch_size == self.batch_size or min(whole, 4 * pace.step) > LONGEST_STEP:
                return batch_size, pace
            batch_size = self.batch_size if whole <= LONGEST_STEP else min(4 * batch_size, self.batch_size)

    @cached_property
    def training(self) -> Pace:
        """Return the pace of one network's training, alone."""
        batch_size, pace = self._single
        return replace(pace, step=pace.step * self.batch_size / batch_size)

    @property
    def example(self) -> float:
        """Return the seconds that one example takes in a training step."""
        return self.training.step / self.batch_size

    @cached_property
    def answer(self) -> float:
        """Return the seconds that a trained network takes to answer one example."""
        network = self.trainer.fresh(STREAM)
        count = min(1000, max(1, int(LONGEST_STEP / 2 / self.example)), len(self.trainer.examples))
        self.trainer.logits(network, np.arange(1), 1)
        start = time.perf_counter()
        self.trainer.logits(network, np.arange(count), 1)
        return (time.perf_counter() - start) / count

    def together(self, size: int, steps: int, at_once: int, *, stacked: bool) -> float:
        """Return the seconds that so many steps of a group of networks take, many groups at once, each on one core."""
        batch_size, single = self._single
        longest = min(LONGEST_STEP, SHARE * size * steps * self.training.step)
        timed = min(size, max(2, int(longest / single.step))) if stacked else 1
        pace = self._group(batch_size, timed, at_once, stacked)
        return size / timed * (pace.setup + steps * pace.step * self.batch_size / batch_size)

    def unlearning(
        self, unlearner: Unlearner, network: Callable[[], nn.Module], task: Task, at_once: int = 0
    ) -> float | None:
        """Return the seconds that unlearning takes, by so many processes at once on one core each, or here.

        None if the unlearner does not define its steps.
        """
        kinds = unlearner.steps(task)
        if kinds is None:
            return None
        return sum(self._steps(kind, network, task, at_once) for kind in kinds if kind.count)

    def _steps(self, kind: Steps, network: Callable[[], nn.Module], task: Task, at_once: int) -> float:
        if kind.examples * self.example > LONGEST_STEP:
            return kind.count * kind.examples * self.example * max(at_once, 1)
        settings = replace(task.settings, compile=False)

        def measure() -> Pace:
            watch, made = Stopwatch(self._device, kind.count), network()
            timed = replace(task, settings=settings, checkpoint=watch)
            return watch.pace(lambda: kind.unlearner.run(made, timed))

        return mean(_at_once(measure, at_once)).seconds(kind.count)

    @property
    def _device(self) -> torch.device:
        return self.trainer.settings.torch_device()

    def _group(self, batch_size: int, networks: int, at_once: int, stacked: bool) -> Pace:
        """Return the mean pace of groups that are fitted at once; each is timed once."""
        key = batch_size, networks, at_once, stacked
        if key not in self._groups:
            self._groups[key] = mean(_at_once(lambda: self._pace(batch_size, networks, stacked=stacked), at_once))
        return self._groups[key]

    def _pace(self, batch_size: int, networks: int, *, stacked: bool) -> Pace:
        """Time a few steps of networks on batches of this size: as one stack, or one network alone."""
        optimizer = replace(self.trainer.optimizer, epochs=1, batch_size=batch_size)
        settings = replace(self.trainer.settings, compile=False)
        trainer = replace(self.trainer, optimizer=optimizer, settings=settings)
        rows = np.resize(np.arange(len(trainer.examples)), MOST_STEPS * batch_size)
        watch = Stopwatch(self._device, steps_of(len(rows), self.trainer))
        if not stacked:
            return watch.pace(lambda: trainer.fitted(rows, STREAM, 0, checkpoint=watch))
        every = [rows] * networks
        return watch.pace(lambda: trainer.fitted_stack(every, STREAM, range(networks), checkpoint=watch))


def mean(paces: Sequence[Pace]) -> Pace:
    """Return the mean pace."""
    return Pace(fmean(pace.setup for pace in paces), fmean(pace.step for pace in paces))


def _at_once(measure: Callable[[], Pace], workers: int) -> list[Pace]:
    """Return the measurements of so many workers at the same time; with 0, of this process with all its threads."""
    return list(run_tasks([measure] * workers, workers)) if workers else [measure()]


def steps_of(count: int, trainer: Trainer) -> int:
    """Return the steps of a training on so many examples."""
    return trainer.optimizer.epochs * len(batch_sizes(count, trainer.optimizer.batch_size))
