"""Random streams by name: every use of randomness has its own, so adding one moves no other."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Iterator

import numpy as np
import torch

from advunlearn.runtime.switches import kept_switches
from advunlearn.runtime.threads import kept_threads


def seed_sequence(seed: int, name: str, *index: int) -> np.random.SeedSequence:
    """Return the root of the stream `name` (and, within it, of the item `index`) under the run's seed."""
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()), *index))


def numpy_stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return a numpy generator for the stream `name`."""
    return np.random.default_rng(seed_sequence(seed, name, *index))


def torch_stream(seed: int, name: str, *index: int) -> torch.Generator:
    """Return a CPU torch generator for the stream `name`.

    Draws are made on the CPU on every device, so a CUDA run sees the same batches as a CPU run.
    """
    state = int(seed_sequence(seed, name, *index).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state)


@contextlib.contextmanager
def clean_state(seed: int) -> Iterator[None]:
    """Seed the global generators of the process, and restore them and torch's threads and switches at the end.

    User code may draw from these generators. No run of a sweep sees what an earlier one left.
    """
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        with kept_switches(), kept_threads():
            yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
