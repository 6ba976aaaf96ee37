"""CPU threads of torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Leave torch with the number of CPU threads that it had, whatever is set inside."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep torch to one CPU thread inside; a thread that starts inside keeps to it as well."""
    with kept_threads():
        torch.set_num_threads(1)
        yield


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
