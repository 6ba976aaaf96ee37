"""The setup of an experiment's models: everything that determines a model that is trained on some rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.examples import QUERIES, Examples
from advunlearn.models.model import Model
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.runtime.settings import Settings
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import GlobalGenerators, Watch, check_logits, fit, initialise, place, predict, seeded
from advunlearn.training.stack import fit_stack
from advunlearn.training.weights import load_weights, tensors_digest, weights_of

S = TypeVar("S", bound="Setup")

SCHEMA = 5  # raise it when this file's or fit's results change: stored models of the old code are then not reused


@dataclass(frozen=True)
class Setup:
    """What every model of an experiment shares: the examples, on the device, and how a network is fitted to some."""

    pool: Pool
    examples: Examples
    dataset: Dataset
    model: Model
    optimizer: Optimizer
    settings: Settings

    def key(self, rows: NDArray[np.int64], stream: str, *index: int) -> dict[str, Any]:
        """Return everything that determines the model trained on these rows: its name in the store."""
        return {
            "schema": SCHEMA,
            "dataset": self.pool.checksum,
            "view": self.view,
            "rows": index_digest(rows),
            "model": self.model.identity() | self.start,
            "optimizer": self.optimizer.identity(),
            "settings": self.settings.identity(),
            "stream": [stream, *index],
        }

    def seeded(self: S, seed: int) -> S:
        """Return this setup with another root of its random streams."""
        return self if seed == self.settings.seed else replace(self, settings=replace(self.settings, seed=seed))

    @cached_property
    def view(self) -> dict[str, Any]:
        """Return what determines how the pool's inputs are prepared for a network."""
        normalise = self.examples.normalise
        return {**self.dataset.identity(), "normalise": normalise.digest if normalise is not None else None}

    @cached_property
    def start(self) -> dict[str, str]:
        """Return the digest of the weights that every network starts from, for keys; empty if they are random."""
        if not self.model.pretrained:
            return {}
        return {"start": tensors_digest(weights_of(self.built("warm")))}

    def built(self, stream: str, *index: int) -> nn.Module:
        """Return an untrained network of this experiment on the CPU."""
        return initialise(self.model, self.examples.shape, self.pool.classes, self.settings, stream, *index)

    def fresh(self, stream: str, *index: int) -> nn.Module:
        """Return an untrained network of this experiment on the device."""
        return place(self.built(stream, *index), self.settings)

    @cached_property
    def draws(self) -> bool:
        """Return whether a network draws from torch's global generators during training, as dropout does."""
        generators = GlobalGenerators(self.settings.torch_device())
        network = self.fresh("warm").train()
        with seeded(self.settings, "warm"):
            before = generators.state_dict()
            network(self.examples.prepared(2))
            return not all(map(torch.equal, before, generators.state_dict()))

    def fitted(
        self, rows: NDArray[np.int64], stream: str, *index: int, checkpoint: Checkpoint | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train a network on these rows, without the store; return it and the mean loss of its last epoch."""
        network = self.fresh(stream, *index)
        return network, {"loss": self.fit(network, rows, stream, *index, checkpoint=checkpoint)}

    def fit(
        self,
        network: nn.Module,
        rows: NDArray[np.int64],
        stream: str,
        *index: int,
        checkpoint: Checkpoint | None = None,
        watch: Watch | None = None,
    ) -> float:
        """Train a network on these rows, in place, from the weights that it has; return the last epoch's mean loss."""
        # Row order must not matter: the key holds the rows as a set.
        examples = self.examples.subset(np.sort(rows))
        # Only where it is needed: to other threads the process's generators are locked meanwhile.
        with seeded(self.settings, f"fit/{stream}", *index) if self.draws else nullcontext():
            loss = fit(
                network, examples, self.optimizer, self.settings, stream, *index, checkpoint=checkpoint, watch=watch
            )
        check_logits(network, examples, stream, self.optimizer)
        return loss

    def fitted_stack(
        self,
        rows: Sequence[NDArray[np.int64]],
        stream: str,
        indices: Sequence[int],
        checkpoint: Checkpoint | None = None,
    ) -> list[tuple[nn.Module, dict[str, Any]]]:
        """Return the results of `fitted`, within rounding, for sets of rows of one length, fitted as one network."""
        networks = [self.fresh(stream, index) for index in indices]
        losses = fit_stack(
            networks,
            self.examples,
            [np.sort(each) for each in rows],
            self.optimizer,
            self.settings,
            stream,
            indices,
            checkpoint,
        )
        for network in networks:
            check_logits(network, self.examples, stream, self.optimizer)
        return [(network, {"loss": loss}) for network, loss in zip(networks, losses, strict=True)]

    def restore(self, artefact: Artefact, stream: str) -> nn.Module:
        """Return a network of this experiment with an artefact's weights."""
        network = self.built(stream)
        load_weights(network, artefact.tensors)
        return place(network, self.settings).eval()

    def logits(self, network: nn.Module, rows: NDArray[np.int64], queries: int) -> NDArray[np.float32]:
        """Return the logits of a network for each row under the first `queries` of `QUERIES`, (n, queries, classes)."""
        examples = self.examples.subset(rows)
        return np.stack([predict(network, examples, query).numpy() for query in QUERIES[:queries]], 1)
