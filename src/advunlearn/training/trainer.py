"""Train any model of an experiment through the store: original, retrained and shadow models differ in rows only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
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
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.runtime import workers
from advunlearn.runtime.settings import Settings
from advunlearn.runtime.threads import CORES
from advunlearn.storage.store import Artefact, Store, index_digest
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import GlobalGenerators, fit, initialise, place, predict, seeded
from advunlearn.training.layers import in_layers
from advunlearn.training.stack import fit_stack

logger = logging.getLogger(__name__)

SCHEMA = 4  # raise it when this file's or fit's results change: stored models of the old code are then not reused
# Floating-point operations of a step, three times two a multiply-add. Below the first number a second CPU thread costs
# more than it does; below the others a stack is faster than its networks one by one, whose steps are then preparation
# more than arithmetic; on the CPU, vmap's own preparation counts as well.
SMALL_STEP = 1e9
STACKED_STEP = {"cpu": 3e8, "cuda": 2e10}
VMAP_STEP = {"cpu": 3e7, "cuda": 2e10}
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad)


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
            "model": self.model.identity(),
            "optimizer": self.optimizer.identity(),
            "settings": self.settings.identity(),
            "stream": [stream, *index],
        }

    def choose_threads(self) -> None:
        """Set torch's CPU threads: as the settings say, else one where a training step is too small to share.

        On small tensors a second thread costs more than it does, and many times more on a machine that is busy.
        """
        torch.set_num_threads(self.settings.threads or (1 if self.step_size < SMALL_STEP else CORES))

    @cached_property
    def step_size(self) -> int:
        """Return the floating-point operations of a training step."""
        network = self.fresh("warm").eval()
        inputs = self.examples.prepare(self.examples.inputs[:1])
        return 6 * self.optimizer.batch_size * multiply_adds(network, inputs)

    @cached_property
    def draws(self) -> bool:
        """Does a network draw from torch's global generators as it trains, as dropout does?"""
        generators = GlobalGenerators(self.settings.torch_device())
        network = self.fresh("warm").train()
        with seeded(self.settings, "warm"):
            before = generators.state_dict()
            network(self.examples.prepare(self.examples.inputs[:2]))
            return not all(map(torch.equal, before, generators.state_dict()))

    @property
    def can_stack(self) -> bool:
        """Can networks be fitted as one? Not where one draws from the common generator, or mixes with the others.

        Raises:
            RuntimeError: an error of the device, such as too little memory: it is no property of the networks.
        """
        optimizer = self.optimizer.torch_optimizer([nn.Parameter(torch.zeros(1))])
        if self.draws or self.settings.compile or not isinstance(optimizer, ELEMENTWISE):
            return False
        rows = np.arange(min(4, len(self.examples)))
        try:
            self.fitted_stack([rows, rows], "warm", [0, 1], replace(self.optimizer, epochs=1))
        except Exception as error:  # vmap's own, or whatever a user's network raises under it
            if _is_of_device(error):
                raise
            reason = (str(error).splitlines() or [""])[0]
            logger.info("networks are fitted one by one, not as a stack: %s: %s", type(error).__name__, reason)
            return False
        return True

    @cached_property
    def stacks(self) -> bool:
        """Are many networks fitted faster as one, and can they be?"""
        largest = STACKED_STEP if in_layers(self.fresh("warm")) else VMAP_STEP
        return self.step_size < largest[self.settings.torch_device().type] and self.can_stack

    @property
    def workers(self) -> int:
        """Return how many networks may be fitted at the same time, one a CPU core; on a GPU one after another."""
        if self.settings.torch_device().type != "cpu" or self.settings.compile or (self.draws and not workers.forks()):
            return 1  # threads share torch's global generators, which processes do not
        return self.settings.threads or CORES

    def built(self, stream: str, *index: int) -> nn.Module:
        """Return an untrained network of this experiment on the CPU."""
        height, width, channels = self.pool.images.shape[1:]
        return initialise(self.model, (channels, height, width), self.pool.classes, self.settings, stream, *index)

    def fresh(self, stream: str, *index: int) -> nn.Module:
        """Return an untrained network of this experiment on the device."""
        return place(self.built(stream, *index), self.settings)

    def checkpoint(self, kind: str, key: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint of what is trained to make an artefact, which goes once that is kept."""
        return Checkpoint(self.store.checkpoints(kind, key), self.settings.checkpoint_seconds)

    def fitted(
        self, rows: NDArray[np.int64], stream: str, *index: int, checkpoint: Checkpoint | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Return a network trained on these rows, and its last epoch's mean loss by name, without asking the store."""
        network = self.fresh(stream, *index)
        # Row order must not matter: the key holds the rows as a set.
        examples = self.examples.subset(np.sort(rows))
        # Only where it is needed: to other threads the process's generators are locked meanwhile.
        with seeded(self.settings, f"fit/{stream}", *index) if self.draws else nullcontext():
            loss = fit(network, examples, self.optimizer, self.settings, stream, *index, checkpoint=checkpoint)
        return network, {"loss": loss}

    def fitted_stack(
        self,
        rows: Sequence[NDArray[np.int64]],
        stream: str,
        indices: Sequence[int],
        optimizer: Optimizer | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> list[tuple[nn.Module, dict[str, Any]]]:
        """Return what `fitted` would, but for rounding, of several equally long sets of rows, fitted as one network."""
        networks = [self.fresh(stream, index) for index in indices]
        losses = fit_stack(
            networks,
            self.examples,
            [np.sort(each) for each in rows],
            optimizer or self.optimizer,
            self.settings,
            stream,
            indices,
            checkpoint,
        )
        return [(network, {"loss": loss}) for network, loss in zip(networks, losses, strict=True)]

    @cached_property
    def warm(self) -> bool:
        """Take a step on a throw-away network: a process's first one loads code that no stage's time should include.

        A GPU chooses its algorithms, and the compiler makes its graph, for the size of a whole batch.
        """
        whole = self.settings.compile or self.settings.torch_device().type == "cuda"
        rows = np.arange(min(self.optimizer.batch_size if whole else 8, len(self.examples)))
        recipe = replace(self.optimizer, epochs=1)
        fit(self.fresh("warm"), self.examples.subset(rows), recipe, self.settings, "warm")
        return True

    def timed(self, make: Callable[[], tuple[nn.Module, dict[str, Any]]], checkpoint: Checkpoint) -> Artefact:
        """Return a network that is made now as an artefact; its record also holds how long that took, in seconds.

        Args:
            make: keeps its state in `checkpoint`, from which the time of interrupted attempts is known.
        """
        _ = self.warm
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

    def restore(self, artefact: Artefact, stream: str) -> nn.Module:
        """Return a network of this experiment with an artefact's weights."""
        network = self.built(stream)
        network.load_state_dict(artefact.tensors)
        return place(network, self.settings).eval()

    def logits(self, network: nn.Module, rows: NDArray[np.int64], queries: int) -> NDArray[np.float32]:
        """Return what a network says of each row under the first so many of `QUERIES`, (n, queries, classes)."""
        examples = self.examples.subset(rows)
        return np.stack([predict(network, examples, query).numpy() for query in QUERIES[:queries]], 1)


def _is_of_device(error: Exception) -> bool:
    """Return whether the device failed, by the types of errors or, where torch has none for it, by their words."""
    types = (MemoryError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))
    words = ("CUDA error", "CUDA out of memory", "not enough memory", "DefaultCPUAllocator")
    return isinstance(error, types) or any(each in str(error) for each in words)


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
