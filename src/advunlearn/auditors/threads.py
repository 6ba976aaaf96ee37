"""Small tensors and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def one_thread(tensor: Tensor) -> Iterator[None]:
    """Keep torch to one CPU thread: for tensors this small a second one waits, and on a busy machine for long."""
    threads = torch.get_num_threads()
    if tensor.device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
