"""The memory that a piece of work needs."""

from __future__ import annotations

import resource
import sys
from types import TracebackType

import torch


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
            torch.cuda.reset_peak_memory_stats(self.device)
        self._before = process_peak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        on_cuda = self.device.type == "cuda"
        self.bytes = torch.cuda.max_memory_allocated(self.device) if on_cuda else process_peak() - self._before


def process_peak() -> int:
    """Return the most bytes of memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
