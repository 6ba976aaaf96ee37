"""The memory that a piece of work needs, and the error where it is not enough."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from advunlearn.options import UserError

if TYPE_CHECKING:
    import torch


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of glibc's `mallopt`
_NEVER, _GIB, _MIB = -1, 1 << 30, 1 << 20

_inside = 0  # how many `kept_memory` there are, one inside the other


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory inside, for the next allocation, and give it back to the system at the end.

    A training step allocates the tensors that the step before has freed. By default, glibc gives large ones back at
    once, and the system then clears each page of the next ones: a tenth of a step on a CPU. Afterwards it keeps up to
    64 MiB: glibc cannot restore its defaults, nor what `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` said.
    With another C library, nothing is changed.
    """
    global _inside
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "malloc_trim"):
        yield
        return
    # Old versions refuse more than 32 MiB. Without the first option, the second would make all of it slower.
    kept = library.mallopt(_MMAP_THRESHOLD, _GIB) or library.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
    if kept:
        library.mallopt(_TRIM_THRESHOLD, _NEVER)
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        if kept and not _inside:
            library.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
            library.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        library.malloc_trim(0)


class PeakMemory:
    """Measure the peak memory of the work in a `with` block, in `bytes`.

    On CUDA it is the most that was allocated on the device. On the CPU it is by how much the process's peak grew: 0
    where the work needed less than what the process had already used before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        self._before = process_peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = device_peak(self.device) if self.device.type == "cuda" else process_peak() - self._before


def device_peak(device: torch.device) -> int:
    """Return the most bytes that were allocated on a CUDA device since its peak was reset."""
    import torch

    return torch.cuda.max_memory_allocated(device)


def process_peak() -> int:
    """Return the most bytes of memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class ShortOfMemory(Exception):
    """Memory was short for a worker.

    Attributes:
        workers: how many there were.
        status: the exit status of a command that ends with this error: that of a killed process, if one was killed.
    """

    def __init__(self, workers: int, *, killed: bool) -> None:
        self.workers = workers
        self.status = 128 + signal.SIGKILL if killed else 1
        what = "the system killed one of {} worker processes, most likely because memory ran out"
        what = what if killed else "memory ran out in one of {} worker processes"
        super().__init__(f"{what.format(workers)} (try workers={self.fewer}, or a machine with more memory)")

    @property
    def fewer(self) -> int:
        """Return the number of workers for the next attempt."""
        return max(1, self.workers // 2)


class DeviceFull(UserError):
    """The memory of a GPU is not enough for a task that another GPU may be able to do."""
