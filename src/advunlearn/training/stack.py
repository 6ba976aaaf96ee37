"""Fit many small networks at once: one network whose every weight has a leading axis of models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional as F

from advunlearn.data.examples import Examples, draw_batches
from advunlearn.seeding import torch_stream
from advunlearn.settings import Settings
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import check_loss
from advunlearn.training.layers import stacked_forward
from advunlearn.training.loop import Loop
from advunlearn.training.optimizer import Optimizer


def fit_stack(
    networks: Sequence[nn.Module],
    examples: Examples,
    rows: Sequence[NDArray[np.int64]],
    optimizer: Optimizer,
    settings: Settings,
    stream: str,
    indices: Sequence[int],
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Fit k networks in place, each to its own rows of the examples, and return their last epochs' mean losses.

    Each comes out as `fit` would leave it by itself, from the same streams, but for the rounding of sums: what one
    network does touches no other.

    Args:
        networks: of one architecture; their buffers, such as BatchNorm's, are each one's own.
        rows: (n,) each, one n for all.
        indices: of each network within the random stream.
        checkpoint: to go on from, as in `fit`.

    Raises:
        Diverged: as soon as an epoch's mean loss of a network is not finite.
    """
    parameters, buffers = stack_module_state(list(networks))  # type: ignore[arg-type]
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    forward = stacked_forward(networks[0], memory_format)
    data = _Batches(examples, rows, optimizer.batch_size, settings, stream, indices)
    torch_optimizer, schedule = optimizer.create(parameters.values(), optimizer.epochs * len(data))
    total = torch.zeros(len(networks), device=examples.labels.device)
    parts = {
        **{f"network/{name}": tensor for name, tensor in (parameters | buffers).items()},
        **{f"augment/{position}": generator for position, generator in enumerate(data.augments)},
        "optimizer": torch_optimizer,
        "schedule": schedule,
        "total": total,
    }
    means = [math.nan] * len(networks)
    label = f"{stream} {indices[0]} to {indices[-1]}"
    for _, batches in Loop(optimizer.epochs, data.draw, data.orders, parts, checkpoint, label):
        for batch in batches:
            inputs, labels = data.prepare(batch)
            with settings.autocast():
                logits = forward(parameters, buffers, inputs).float()
            losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
            torch_optimizer.zero_grad(set_to_none=True)
            losses.mean(1).sum().backward()
            torch_optimizer.step()
            schedule.step()
            total += losses.detach().sum(1)
        means = (total / len(rows[0])).tolist()
        for mean in means:
            check_loss(mean, stream, optimizer)
        total.zero_()
    for position, network in enumerate(networks):
        network.load_state_dict({name: each[position] for name, each in (parameters | buffers).items()})
    return means


class _Batches:
    """The batches that each of k networks would see by itself, side by side as (k, b, ...)."""

    def __init__(
        self,
        examples: Examples,
        rows: Sequence[NDArray[np.int64]],
        batch_size: int,
        settings: Settings,
        stream: str,
        indices: Sequence[int],
    ) -> None:
        self.examples, self.batch_size = examples, batch_size
        self.rows = [torch.as_tensor(each, device=examples.labels.device) for each in rows]
        self.orders = [torch_stream(settings.seed, f"batches/{stream}", index) for index in indices]
        self.augments = [torch_stream(settings.seed, f"augment/{stream}", index) for index in indices]

    def __len__(self) -> int:
        return len(draw_batches(self.rows[0], self.batch_size, torch.Generator()))

    def draw(self) -> list[tuple[Tensor, ...]]:
        """Return an epoch's batches, of each network the rows (b,)."""
        drawn = [draw_batches(rows, self.batch_size, order) for rows, order in zip(self.rows, self.orders, strict=True)]
        return list(zip(*drawn, strict=True))

    def prepare(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the inputs (k, b, ...) and labels (k, b) of a batch."""
        shape, index = (len(batch), len(batch[0])), torch.cat(batch)
        inputs = self.examples.prepare(self.examples.inputs[index], self.augments)
        return inputs.unflatten(0, shape), self.examples.labels[index].unflatten(0, shape)
