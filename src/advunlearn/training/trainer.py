"""Train any model of an experiment through the store: original, retrained and shadow models differ in rows only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.storage.store import Artefact, Store
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.policy import Policy
from advunlearn.training.setup import Setup


@dataclass(frozen=True)
class Trainer(Setup):
    """A setup with the store that keeps its models, and the policy by which they are trained."""

    store: Store

    @cached_property
    def policy(self) -> Policy:
        """Return the policy of this setup."""
        return Policy(self)

    def checkpoint(self, kind: str, key: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint of what is trained to make an artefact, which goes once that is kept."""
        folder = self.store.checkpoints(kind, key)
        return Checkpoint(folder, self.settings.checkpoint_seconds, self.store.digest(kind, key))

    def timed(self, make: Callable[[], tuple[nn.Module, dict[str, Any]]], checkpoint: Checkpoint) -> Artefact:
        """Return a network that is made now as an artefact; its record also holds how long that took, in seconds.

        Args:
            make: keeps its state in `checkpoint`, from which the time of interrupted attempts is known.
        """
        self.policy.warm_up()
        checkpoint.begin()
        network, record = make()
        return Artefact({"seconds": checkpoint.spent(), **record}, dict(network.state_dict()), {})

    def train(self, rows: NDArray[np.int64], stream: str) -> tuple[nn.Module, Artefact]:
        """Return the network trained on these rows, from the store if it is there, with its artefact."""
        key = self.key(rows, stream)

        def make() -> Artefact:
            checkpoint = self.checkpoint("model", key)
            return self.timed(lambda: self.fitted(rows, stream, checkpoint=checkpoint), checkpoint)

        artefact = self.store.get_or_make("model", key, make)
        return self.restore(artefact, stream), artefact
