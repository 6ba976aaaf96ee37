"""Train any model of an experiment through the store: original, retrained and shadow models differ in rows only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.examples import QUERIES, Examples
from advunlearn.models.model import Model
from advunlearn.settings import Settings
from advunlearn.store import Artefact, Store, index_digest
from advunlearn.training.fit import fit, initialise, predict
from advunlearn.training.optimizer import Optimizer

SCHEMA = 1  # raise it when this file's or fit's results change: stored models of the old code are then not reused
_THREADS = torch.get_num_threads()  # torch's own choice, before anything changes it
SMALL_STEP = 1e9  # floating-point operations of a forward and backward pass, three times two a multiply-add


@dataclass(frozen=True)
class Trainer:
    """Hold what every model of an experiment shares: the examples, on the device, and how to fit a network to some."""

    pool: Pool
    examples: Examples
    dataset: Dataset
    model: Model
    optimizer: Optimizer
    settings: Settings
    store: Store

    def key(self, rows: NDArray[np.int64], stream: str, *index: int) -> dict[str, Any]:
        """Return everything that determines the model trained on these rows: its name in the store."""
        return {
            "schema": SCHEMA,
            "dataset": self.pool.checksum,
            "view": self.dataset.identity(),
            "rows": index_digest(rows),
            "model": self.model.resolved(),
            "optimizer": self.optimizer.resolved(),
            "settings": self.settings.identity(),
            "stream": [stream, *index],
        }

    def choose_threads(self) -> None:
        """Set torch's CPU threads: as the settings say, else one where a training step is too small to share.

        On small tensors a second thread costs more than it does, and many times more on a machine that is busy.
        """
        height, width, channels = self.pool.images.shape[1:]
        network = self.model.build((channels, height, width), self.pool.classes).eval()
        step = 6 * self.optimizer.batch_size * multiply_adds(network, torch.zeros(1, channels, height, width))
        torch.set_num_threads(self.settings.threads or (1 if step < SMALL_STEP else _THREADS))

    def fresh(self, stream: str, *index: int) -> nn.Module:
        """Return an untrained network of this experiment."""
        height, width, channels = self.pool.images.shape[1:]
        return initialise(self.model, (channels, height, width), self.pool.classes, self.settings, stream, *index)

    def fitted(self, rows: NDArray[np.int64], stream: str, *index: int) -> tuple[nn.Module, dict[str, Any]]:
        """Return a network trained on these rows, and its last epoch's mean loss by name, without asking the store."""
        network = self.fresh(stream, *index)
        # Row order must not matter: the key holds the rows as a set.
        loss = fit(network, self.examples.subset(np.sort(rows)), self.optimizer, self.settings, stream, *index)
        return network, {"loss": loss}

    @cached_property
    def warm(self) -> bool:
        """Take a step on a throw-away network: a process's first one loads code that no stage's time should hold."""
        recipe = replace(self.optimizer, epochs=1)
        fit(
            self.fresh("warm"),
            self.examples.subset(np.arange(min(8, len(self.examples)))),
            recipe,
            self.settings,
            "warm",
        )
        return True

    def timed(self, make: Callable[[], tuple[nn.Module, dict[str, Any]]]) -> Artefact:
        """Return a network that is made now as an artefact; its record also says how long that took, in seconds."""
        assert self.warm
        start = time.perf_counter()
        network, record = make()
        return Artefact({"seconds": time.perf_counter() - start, **record}, dict(network.state_dict()), {})

    def train(self, rows: NDArray[np.int64], stream: str) -> tuple[nn.Module, Artefact]:
        """Return the network trained on these rows, from the store if it is there, with its artefact."""

        def make() -> Artefact:
            return self.timed(lambda: self.fitted(rows, stream))

        artefact = self.store.get_or_make("model", self.key(rows, stream), make)
        return self.restore(artefact, stream), artefact

    def restore(self, artefact: Artefact, stream: str) -> nn.Module:
        """Return a network of this experiment with an artefact's weights."""
        network = self.fresh(stream)
        network.load_state_dict(artefact.tensors)
        return network.eval()

    def logits(self, network: nn.Module, rows: NDArray[np.int64], queries: int) -> NDArray[np.float32]:
        """Return what a network says of each row under the first so many of `QUERIES`, (n, queries, classes)."""
        examples = self.examples.subset(rows)
        return np.stack([predict(network, examples, self.settings, query).numpy() for query in QUERIES[:queries]], 1)

    def shadow_logits(
        self, rows: NDArray[np.int64], index: int, observed: NDArray[np.int64], queries: int
    ) -> NDArray[np.float32]:
        """Return what shadow model `index`, trained on `rows`, says of the observed rows, (n, queries, classes).

        Only they are stored: a network is 45 MB where its logits on 60,000 images are 2.4 MB, and no attack needs more.
        """

        def make() -> Artefact:
            start = time.perf_counter()
            network, record = self.fitted(rows, "shadow", index)
            logits = self.logits(network, observed, queries)
            return Artefact({"seconds": time.perf_counter() - start, **record}, {}, {"logits": logits})

        key = {**self.key(rows, "shadow", index), "observed": index_digest(observed), "queries": queries}
        return self.store.get_or_make("shadow", key, make).arrays["logits"]


def multiply_adds(network: nn.Module, inputs: Tensor) -> int:
    """Return how many multiply-adds the linear and convolution layers of the network spend on these inputs.

    Torch's own counter imports its compiler, which takes longer than the default run's training.
    """
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * next(layer.parameters())[0].numel()

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return total
