"""CPU threads of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

CORES = torch.get_num_threads()  # torch's own choice, before anything changes it


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Restore the number of CPU threads at the end."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_thread(tensor: Tensor | None = None) -> Iterator[None]:
    """Compute on one CPU thread inside; a thread that starts inside does so as well.

    Args:
        tensor: that is computed on; if it is not on the CPU, nothing is changed. On small tensors a second thread only
            waits, and on a busy machine for long.
    """
    if tensor is not None and tensor.device.type != "cpu":
        yield
        return
    with kept_threads():
        torch.set_num_threads(1)
        yield
