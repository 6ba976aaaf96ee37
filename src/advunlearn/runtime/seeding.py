"""Random streams by name: every use of randomness has its own, so adding one moves no other."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from advunlearn.runtime.memory import kept_memory
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
    """Seed the process's global generators and start from the defaults of torch and NumPy; restore all at the end.

    User code may draw from these generators. A run depends neither on an earlier run in the same process nor on the
    program that calls the Python API, which may have turned gradients off, and it leaves no trace in either.
    """
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype = torch.get_default_dtype()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float32)
    try:
        with (
            kept_memory(),
            kept_switches(),
            kept_threads(),
            torch.inference_mode(False),
            torch.enable_grad(),
            np.errstate(**_NUMPY),
        ):
            yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        torch.set_default_dtype(dtype)
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


# NumPy's defaults: where a program has set them to raise, a probability that underflows to 0 would be an error.
_NUMPY: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
