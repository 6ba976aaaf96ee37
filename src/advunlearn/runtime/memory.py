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

_depth = 0  # how many `kept_memory` blocks are open, one inside the other


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory for the next allocation, until the end of the block; then give it back to the system.

    Each training step allocates tensors as large as those that the step before freed. By default, glibc gives large
    blocks back to the system at once, and the system clears every page before it lends them again: a tenth of the time
    of a step on a CPU. glibc has no way to restore its settings: after the block, it keeps at most 64 MiB of freed
    memory, whatever `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` say. Other C libraries are left as they are.
    """
    global _depth
    library: Any = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        yield
        return
    # Old versions refuse more than 32 MiB. The second option alone would make allocations slower.
    kept = library.mallopt(_MMAP_THRESHOLD, _GIB) or library.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
    if kept:
        library.mallopt(_TRIM_THRESHOLD, _NEVER)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if kept and not _depth:
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
