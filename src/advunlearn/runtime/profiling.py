"""Record operations with torch's profiler: some steps of each training, and what is outside trainings.

All steps would be more than a viewer can open: so only the steps `SKIPPED` + 1 to `SKIPPED` + `STEPS` of the first
`TRAININGS` trainings of a recording are in it. While nothing is recorded, nothing here does anything.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from advunlearn.options import UserError

if TYPE_CHECKING:
    import torch
    from torch.profiler import profile

SKIPPED = 2  # the first steps of a training load code and reserve memory
STEPS = 20
TRAININGS = 3

_recording: Recording | None = None  # of this process


class Recording:
    """What torch's profiler records between `begin` and `end`, in the thread that made it.

    Each part is a profile of its own, because a running one cannot pause. It is read at the end only: that takes longer
    than what it recorded, and trainings are timed.

    Attributes:
        parts: finished profiles, in order.
        trainings: of each recorded training its name, and the number of its recorded steps.
        seconds: that were recorded.
        elsewhere: the most workers that tasks ran in, which are not recorded; 0 without any.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.parts: list[profile] = []
        self.trainings: list[tuple[str, int]] = []
        self.seconds = 0.0
        self.elsewhere = 0
        self._running: profile | None = None
        self._started = 0.0
        self._busy = self._ended = False
        self._owner = os.getpid(), threading.get_ident()

    def begin(self) -> None:
        """Record from now on."""
        global _recording
        _recording = self
        self._start()

    def end(self) -> None:
        """Record nothing more."""
        global _recording
        self._stop()
        self._ended = True
        _recording = None

    @property
    def listens(self) -> bool:
        """Return whether this thread is recorded, outside all trainings."""
        return not self._busy and self._owner == (os.getpid(), threading.get_ident())

    @contextlib.contextmanager
    def training(self, name: str) -> Iterator[Callable[[], None]]:
        """Record only some steps inside; the function that it gives has to be called before every step."""
        count, span = 0, contextlib.ExitStack()

        def close() -> None:
            span.close()
            self._stop()

        def step() -> None:
            nonlocal count
            count += 1
            span.close()
            if count == SKIPPED + 1 and len(self.trainings) < TRAININGS:
                self.trainings.append((name, 0))
                self._start()
            if count > SKIPPED + STEPS:
                self._stop()
            if self._running is not None:
                self.trainings[-1] = name, count - SKIPPED
                span.enter_context(_named(f"{name}: step {count}"))

        with self.paused():
            try:
                yield step
            finally:
                close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside, but what is started there."""
        self._stop()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._start()

    def _start(self) -> None:
        if self._ended:  # a training that failed may be left after its stage
            return
        self._running = _profile(self.device)
        self._running.start()
        self._started = time.perf_counter()

    def _stop(self) -> None:
        if self._running is not None:
            self.seconds += time.perf_counter() - self._started
            self._running.stop()
            self.parts.append(self._running)
            self._running = None


def prepare(device: torch.device) -> None:
    """Load torch's profiler, which takes seconds once in a process.

    Raises:
        UserError: if it cannot record.
    """
    # It would print lines on standard error at every start; what the user set counts.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    import torch
    from torch.profiler import kineto_available

    if not kineto_available():
        raise UserError("profile=true: this build of torch has no profiler (leave out profile=true)")
    if torch._C._autograd._profiler_enabled():
        raise UserError("profile=true: another profiler records in this thread (end it, or leave out profile=true)")
    with _profile(device):
        pass


@contextlib.contextmanager
def training(name: str) -> Iterator[Callable[[], None]]:
    """Give the function that a training has to call before every step; see `Recording.training`."""
    if _recording is None or not _recording.listens:
        yield _nothing
    else:
        with _recording.training(name) as step:
            yield step


@contextlib.contextmanager
def in_workers(count: int) -> Iterator[None]:
    """Record nothing while so many workers do tasks: a forked process must not inherit a running profiler."""
    if _recording is None or not _recording.listens:
        yield
    else:
        _recording.elsewhere = max(_recording.elsewhere, count)
        with _recording.paused():
            yield


def _nothing() -> None:
    """Do what a step does that nobody records."""


def _profile(device: torch.device) -> profile:
    from torch.profiler import ProfilerActivity, profile

    cuda = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    return profile(activities=[ProfilerActivity.CPU, *cuda])


def _named(name: str) -> contextlib.AbstractContextManager[object]:
    from torch.profiler import record_function

    return record_function(name)
