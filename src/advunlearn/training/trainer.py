"""Train any model of an experiment through the store: original, retrained and shadow models differ only in rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.storage.artefacts import Artefact
from advunlearn.storage.store import Store
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.policy import Policy
from advunlearn.training.setup import Setup
from advunlearn.training.weights import weights_of


@dataclass(frozen=True)
class Trainer(Setup):
    """A setup with the store that keeps its models, and the policy by which they are trained."""

    store: Store

    @cached_property
    def policy(self) -> Policy:
        """Return the policy of this setup.

        It gets a copy, which shares the data: two objects that refer to each other, and so the data of each run of a
        sweep, would stay in memory until Python's garbage collector comes, which counts objects and not bytes.
        """
        return Policy(Setup(**{each.name: getattr(self, each.name) for each in fields(Setup)}))

    def seeded(self, seed: int) -> Trainer:
        """Return this trainer with another root of its random streams, and the same limit of workers."""
        found = super().seeded(seed)
        found.policy.most_workers = self.policy.most_workers
        return found

    def checkpoint(self, kind: str, key: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint of a training for an artefact; it is deleted once the artefact is stored."""
        folder = self.store.checkpoints(kind, key)
        return Checkpoint(folder, self.settings.checkpoint_seconds, self.store.digest(kind, key))

    def timed(self, make: Callable[[], tuple[nn.Module, dict[str, Any]]], checkpoint: Checkpoint) -> Artefact:
        """Make a network, and return it as an artefact; its record includes the seconds of the training.

        Args:
            make: keeps its state in `checkpoint`, which also counts the time of interrupted attempts.
        """
        self.policy.warm_up()
        checkpoint.begin()
        network, record = make()
        return Artefact({"seconds": checkpoint.spent(), **record}, weights_of(network), {})

    def train(self, rows: NDArray[np.int64], stream: str) -> tuple[nn.Module, Artefact]:
        """Return the network trained on these rows, from the store if available, and its artefact."""
        key = self.key(rows, stream)

        def make() -> Artefact:
            checkpoint = self.checkpoint("model", key)
            return self.timed(lambda: self.fitted(rows, stream, checkpoint=checkpoint), checkpoint)

        artefact = self.store.get_or_make("model", key, make)
        return self.restore(artefact, stream), artefact
