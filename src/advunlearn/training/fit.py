"""Fit one network, and compute its logits."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import QUERIES, Examples, Query, batch_sizes
from advunlearn.data.inputs import Batch, Shape
from advunlearn.models.model import Model
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import UserError
from advunlearn.runtime.curves import report
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.settings import Settings
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.loop import Loop

N = TypeVar("N", bound=nn.Module)


class Diverged(UserError):
    """A training or unlearning has diverged; the message names the options of that stage."""


def too_large(options: GradientSteps, group: str) -> str:
    """Return what to lower after divergence: the learning rate, and weight decay if it turns the weights' signs."""
    decay = f" or {group}.weight_decay={options.weight_decay:g}" if options.lr * options.weight_decay > 1 else ""
    return f"lower {group}.lr={options.lr:g}{decay}"


class Watch(Protocol):
    """What follows a training: it is told of every step, and its state is a part of the checkpoint's."""

    def step(self) -> None:
        """Note that another step has been made."""

    def state_dict(self) -> Any:
        """Return its state, plain data."""

    def load_state_dict(self, state: Any) -> None:
        """Restore its state."""


class GradientSteps(Protocol):
    """Options of gradient steps: those of an optimizer, or of an unlearner."""

    lr: float
    weight_decay: float


@contextmanager
def mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Set the mode of the network; at the end, restore the mode of each of its modules."""
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training


_generators = threading.RLock()


def _new_lock() -> None:
    """Use a new lock in a forked process: a thread that does not exist there may have held the old one."""
    global _generators
    _generators = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@contextmanager
def seeded(settings: Settings, stream: str, *index: int) -> Iterator[None]:
    """Seed torch's global generators, which networks and layers use, from a stream; restore them at the end.

    The process has only one of each, so a thread waits here until no other thread is inside.
    """
    device = settings.torch_device()
    with _generators, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed = torch_stream(settings.seed, stream, *index).initial_seed()
        # torch.manual_seed also seeds all other kinds of devices: that takes longer than to initialise a small network.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed_all(seed)
        yield


def initialise(model: Model, shape: Shape, classes: int, settings: Settings, stream: str, *index: int) -> nn.Module:
    """Return a new network on the CPU, initialised from the stream `init/<stream>`."""
    with seeded(settings, f"init/{stream}", *index):
        return model.build(shape, classes)


def place(network: N, settings: Settings) -> N:
    """Move the network to the device and memory format of the settings, and return it."""
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    # A network has a hundred tensors, and each copy would wait for the device.
    return network.to(memory_format=memory_format).to(settings.torch_device(), non_blocking=True)


def forward_of(network: nn.Module, settings: Settings, batch_size: int) -> Callable[[Batch], Tensor]:
    """Return the network's forward pass, compiled for batches of this size with `compile=true`.

    One graph of fixed shapes serves all networks of a class. Batches of another size, such as the last one of an epoch,
    go through the network as it is, which has the same weights.
    """
    if not settings.compile:
        return network
    compiled = torch.compile(network, dynamic=False)
    return lambda inputs: (compiled if _count(inputs) == batch_size else network)(inputs)


def _count(inputs: Batch) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


class GlobalGenerators:
    """Torch's global generators as a part of a training's state."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> list[Tensor]:
        """Return their states."""
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *cuda]

    def load_state_dict(self, states: list[Tensor]) -> None:
        """Set them, while no other thread is `seeded`."""
        with _generators:
            torch.set_rng_state(states[0])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(states[1], self.device)


def fit(
    network: nn.Module,
    examples: Examples,
    optimizer: Optimizer,
    settings: Settings,
    stream: str,
    *index: int,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> float:
    """Fit the network to the examples in place by cross-entropy and return the last epoch's mean loss.

    Batch order and augmentation come from the streams `batches/<stream>` and `augment/<stream>`. With a checkpoint it
    resumes an interrupted training, with the same results to the bit.

    Raises:
        Diverged: as soon as an epoch's mean loss is not finite.
    """
    order = torch_stream(settings.seed, f"batches/{stream}", *index)
    augment = torch_stream(settings.seed, f"augment/{stream}", *index)
    steps = optimizer.epochs * len(batch_sizes(len(examples), optimizer.batch_size))
    torch_optimizer, schedule = optimizer.create(network.parameters(), steps)
    forward = forward_of(network, settings, optimizer.batch_size)
    total = torch.zeros((), device=examples.labels.device)
    parts: dict[str, Any] = {
        "network": network,
        "optimizer": torch_optimizer,
        "schedule": schedule,
        "total": total,
        "global": GlobalGenerators(total.device),
        **({} if watch is None else {"watch": watch}),
    }
    label = " ".join([stream, *map(str, index)])
    mean_loss = math.nan
    with mode(network, training=True):
        draw = partial(examples.shuffled, optimizer.batch_size, order, augment)
        for epoch, batches in Loop(optimizer.epochs, draw, [order, augment], parts, checkpoint, label):
            for batch in batches:
                inputs, labels = examples.training_batch(batch)
                with settings.autocast():
                    logits = forward(inputs)
                loss = F.cross_entropy(logits.float(), labels)
                torch_optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch_optimizer.step()
                schedule.step()
                if watch is not None:
                    watch.step()
                total += loss.detach() * len(labels)
            mean_loss = total.item() / len(examples)
            check_loss(mean_loss, stream, optimizer)
            if not index:  # not one of many models
                report(f"train/{stream}", epoch, {"loss": mean_loss})
            total.zero_()
    return mean_loss


def check_loss(loss: float, stream: str, optimizer: Optimizer) -> None:
    """Raise `Diverged` unless an epoch's mean loss is finite."""
    if not math.isfinite(loss):
        raise Diverged(f"training the {stream} model diverged (loss {loss}); {too_large(optimizer, 'optimizer')}")


def check_logits(network: nn.Module, examples: Examples, stream: str, optimizer: Optimizer) -> None:
    """Raise `Diverged` unless the logits are finite: the last step may ruin a network after its last finite loss."""
    if math.isinf(largest(first_logits(network, examples))):
        raise Diverged(f"training the {stream} model diverged (infinite logits); {too_large(optimizer, 'optimizer')}")


def first_logits(network: nn.Module, examples: Examples) -> Tensor:
    """Return the logits of the first 100 examples, or of all if there are fewer; see `predict`."""
    return predict(network, examples.subset(torch.arange(min(100, len(examples)))))


def largest(logits: Tensor) -> float:
    """Return the largest absolute logit; infinite if one is NaN or infinite, except -inf, which masks a class."""
    found = logits.masked_fill(logits.isneginf(), 0.0).abs().max().item()
    return found if math.isfinite(found) else math.inf


def predict(network: nn.Module, examples: Examples, query: Query = QUERIES[0]) -> Tensor:
    """Return the network's float32 logits (n, classes) on the CPU, in evaluation mode, of one view of each example.

    Always without autocast: an attack must not see the rounding of mixed precision.
    """
    with mode(network, training=False), torch.no_grad():
        return torch.cat([network(inputs).float() for inputs, _ in examples.batches(query=query)]).cpu()
