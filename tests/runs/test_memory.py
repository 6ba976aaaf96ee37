"""A run leaves nothing large behind: a sweep's memory does not grow with its runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from advunlearn.config.compose import experiment_from
from advunlearn.data.dataset import Pool
from advunlearn.runs.manifest import Manifest
from advunlearn.train import run_experiment


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let objects that refer to each other stay: Python counts objects, not bytes, and frees them late."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held() -> tuple[int, int]:
    """Return how many pools there are, and the bytes of all tensors."""
    objects = gc.get_objects()
    tensors = [each.untyped_storage() for each in objects if issubclass(type(each), torch.Tensor)]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in tensors}
    return sum(type(each) is Pool for each in objects), sum(sizes.values())


def run(folder: Path, seed: int) -> None:
    words = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2", f"seed={seed}"]
    with Manifest(folder) as manifest:
        run_experiment(experiment_from(words), manifest, pictures=False)


def test_the_data_and_the_networks_of_a_run_are_freed_when_it_ends(workplace: Path, no_collector: None) -> None:
    run(workplace / "first", 1)  # imports of torch within a process's first training keep its frames
    pools, size = held()
    run(workplace / "second", 2)
    assert held()[0] == pools
    assert held()[1] - size < 20_000  # bytes: a network has 80 kB, the examples have 500 kB
