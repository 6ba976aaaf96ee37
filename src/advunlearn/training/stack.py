"""Fit many small networks at once: one network whose every weight has a leading axis of models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.settings import Settings
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import check_loss
from advunlearn.training.layers import Stack
from advunlearn.training.loop import Loop

SCHEMA = 2  # raise it if results of stacks change, even only in rounding, and those of single networks do not


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
    """Fit k networks in place, each to its own rows of the examples, and return the mean losses of their last epochs.

    Each result equals that of `fit`, with the same streams, except for the rounding of sums: no network affects
    another.

    Args:
        networks: of one architecture; each has its own buffers, such as BatchNorm's.
        rows: (n,) each, one n for all.
        indices: of each network within the random stream.
        checkpoint: as in `fit`.

    Raises:
        Diverged: as soon as an epoch's mean loss of a network is not finite.
    """
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    stack = Stack(networks, memory_format)
    orders = [torch_stream(settings.seed, f"batches/{stream}", index) for index in indices]
    augments = [torch_stream(settings.seed, f"augment/{stream}", index) for index in indices]
    steps = optimizer.epochs * len(batch_sizes(len(rows[0]), optimizer.batch_size))
    torch_optimizer, schedule = optimizer.create(stack.parameters.values(), steps)
    positions = [torch.as_tensor(each) for each in rows]
    total = torch.zeros(len(networks), device=examples.labels.device)
    parts = {
        **{f"network/{name}": tensor for name, tensor in (stack.parameters | stack.buffers).items()},
        "optimizer": torch_optimizer,
        "schedule": schedule,
        "total": total,
    }

    def draw() -> list[Tensor]:
        """Return the batches that each network would see by itself, next to each other as (1 or 4, k, b)."""
        drawn = [
            examples.draw(optimizer.batch_size, order, augment, each)
            for order, augment, each in zip(orders, augments, positions, strict=True)
        ]
        return examples.cut(torch.stack(drawn, 1), optimizer.batch_size)

    means = [math.nan] * len(networks)
    label = f"{stream} {indices[0]} to {indices[-1]}"
    for _, batches in Loop(optimizer.epochs, draw, [*orders, *augments], parts, checkpoint, label):
        for batch in batches:
            inputs, labels = examples.training_batch(batch)
            with settings.autocast():
                logits = stack(inputs).float()
            losses = F.cross_entropy(logits.mT, labels, reduction="none")
            torch_optimizer.zero_grad(set_to_none=True)
            losses.mean(1).sum().backward()
            torch_optimizer.step()
            schedule.step()
            total += losses.detach().sum(1)
        means = (total / len(rows[0])).tolist()
        for mean in means:
            check_loss(mean, stream, optimizer)
        total.zero_()
    stack.unstack()
    return means
