"""How models are trained where the setup leaves a choice: what is fastest on this machine, with the same results."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advunlearn.data.inputs import Batch
from advunlearn.runtime import workers
from advunlearn.runtime.curves import unheard
from advunlearn.runtime.resources import cores
from advunlearn.runtime.threads import CORES
from advunlearn.training.fit import Diverged, fit
from advunlearn.training.layers import in_layers
from advunlearn.training.setup import Setup

logger = logging.getLogger(__name__)

# Floating-point operations of a step, three times two a multiply-add. Below the first number a second CPU thread
# makes a step slower; below the others a stack is faster than its networks one by one, whose steps are then mostly
# overhead; on the CPU, vmap's own overhead counts as well.
SMALL_STEP = 1e9
STACKED_STEP = {"cpu": 3e8, "cuda": 2e10}
VMAP_STEP = {"cpu": 3e7, "cuda": 2e10}
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad)


@dataclass
class Policy:
    """Choose threads, stacks and workers for the training of a setup's models.

    Stacks alone change results, in their rounding: the store's keys hold whether models are stacked.

    Attributes:
        setup: of the models.
        most_workers: a limit on `workers` and `devices`, after an earlier try for which memory was not enough;
            None sets none.
    """

    setup: Setup
    most_workers: int | None = None
    _warm: bool = field(default=False, init=False)

    def choose_threads(self) -> None:
        """Set torch's CPU threads: those of the settings, else one if a training step is too small to share.

        On small tensors a second thread makes a step slower, on a busy machine many times slower.
        """
        asked = self.setup.settings.threads or 0
        if asked > cores():
            logger.warning("threads=%d: more than the %d CPU cores that this process may use is slower", asked, cores())
        torch.set_num_threads(self.setup.settings.threads or (1 if self.step_size < SMALL_STEP else CORES))

    @cached_property
    def step_size(self) -> int:
        """Return the floating-point operations of a training step."""
        network = self.setup.fresh("warm").eval()
        return 6 * self.setup.optimizer.batch_size * multiply_adds(network, self.setup.examples.prepared(1))

    def try_stack(self) -> bool:
        """Fit two networks as one, and return whether that is possible.

        It is not if a network draws from the global generators, or if one affects another.

        Raises:
            RuntimeError: an error of the device, such as too little memory: it is no property of the networks.
        """
        optimizer = self.setup.optimizer.torch_optimizer([nn.Parameter(torch.zeros(1))])
        if self.setup.draws or self.setup.settings.compile or not isinstance(optimizer, ELEMENTWISE):
            return False
        rows, one_epoch = np.arange(min(4, len(self.setup.examples))), replace(self.setup.optimizer, epochs=1)
        try:
            replace(self.setup, optimizer=one_epoch).fitted_stack([rows, rows], "warm", [0, 1])
        except Diverged:
            return True  # one step of these options may be enough for that; it is no property of the networks
        except Exception as error:  # vmap's own, or whatever a user's network raises under it
            if _is_of_device(error):
                raise
            reason = (str(error).splitlines() or [""])[0]
            logger.info("networks are fitted one by one, not as a stack: %s: %s", type(error).__name__, reason)
            return False
        return True

    @cached_property
    def stacks(self) -> bool:
        """Return whether many networks can be fitted as one, which is tried once, and whether that is faster."""
        largest = STACKED_STEP if in_layers(self.setup.fresh("warm")) else VMAP_STEP
        return self.step_size < largest[self.setup.settings.torch_device().type] and self.try_stack()

    def __getstate__(self) -> dict[str, Any]:
        """Return the policy for another process, which has its own first step; see `pickle`."""
        return {**vars(self), "_warm": False}

    @property
    def devices(self) -> list[str]:
        """Return the devices for a set of models; with more than one, each has a process of its own."""
        found, settings = self.setup.settings.all_devices(), self.setup.settings
        return found[: min(filter(None, (len(found), settings.workers, self.most_workers)))]

    @property
    def workers(self) -> int:
        """Return how many networks may be fitted on one device at the same time: one per CPU core; on a GPU one."""
        settings = self.setup.settings
        threads_collide = self.setup.draws and not workers.forks()  # on torch's global generators
        if settings.torch_device().type != "cpu" or settings.compile or threads_collide:
            return 1
        limits = settings.threads or CORES, cores(), settings.workers, self.most_workers
        return min(filter(None, limits))

    def warm_up(self) -> None:
        """Take a step on a temporary network, once: a process's first step loads code, which no timing should include.

        A GPU chooses its algorithms, and the compiler builds its graph, for the size of a full batch.
        """
        if self._warm:
            return
        whole = self.setup.settings.compile or self.setup.settings.torch_device().type == "cuda"
        rows = np.arange(min(self.setup.optimizer.batch_size if whole else 8, len(self.setup.examples)))
        optimizer = replace(self.setup.optimizer, epochs=1)
        with unheard():
            fit(self.setup.fresh("warm"), self.setup.examples.subset(rows), optimizer, self.setup.settings, "warm")
        self._warm = True


def _is_of_device(error: Exception) -> bool:
    """Return whether the device failed, by the types of errors or, where torch has none for it, by their words."""
    types = (MemoryError, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", MemoryError))
    words = ("CUDA error", "CUDA out of memory", "not enough memory", "DefaultCPUAllocator")
    return isinstance(error, types) or any(each in str(error) for each in words)


def multiply_adds(network: nn.Module, inputs: Batch) -> int:
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
