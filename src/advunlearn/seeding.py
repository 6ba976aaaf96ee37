"""Random streams by name: every use of randomness has its own, so adding one moves no other."""

from __future__ import annotations

import zlib

import numpy as np
import torch


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
