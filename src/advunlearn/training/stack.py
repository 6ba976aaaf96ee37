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

from advunlearn.data.examples import Examples, batch_sizes
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.runtime.seeding import torch_stream
from advunlearn.runtime.settings import Settings
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import check_loss
from advunlearn.training.layers import stacked_forward
from advunlearn.training.loop import Loop


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
    parameters, buffers = stack_module_state(list(networks))  # type: ignore[arg-type]
    memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
    forward = stacked_forward(networks[0], memory_format)
    orders = [torch_stream(settings.seed, f"batches/{stream}", index) for index in indices]
    augments = [torch_stream(settings.seed, f"augment/{stream}", index) for index in indices]
    steps = optimizer.epochs * len(batch_sizes(len(rows[0]), optimizer.batch_size))
    torch_optimizer, schedule = optimizer.create(parameters.values(), steps)
    total = torch.zeros(len(networks), device=examples.labels.device)
    parts = {
        **{f"network/{name}": tensor for name, tensor in (parameters | buffers).items()},
        "optimizer": torch_optimizer,
        "schedule": schedule,
        "total": total,
    }

    def draw() -> list[Tensor]:
        """Return the batches that each network would see by itself, next to each other as (1 or 4, k, b)."""
        drawn = [
            examples.draw(optimizer.batch_size, order, augment, torch.as_tensor(each))
            for order, augment, each in zip(orders, augments, rows, strict=True)
        ]
        return examples.cut(torch.stack(drawn, 1), optimizer.batch_size)

    means = [math.nan] * len(networks)
    label = f"{stream} {indices[0]} to {indices[-1]}"
    for _, batches in Loop(optimizer.epochs, draw, [*orders, *augments], parts, checkpoint, label):
        for batch in batches:
            inputs, labels = examples.training_batch(batch)
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
    with torch.no_grad():
        for position, network in enumerate(networks):
            for name, tensor in (*network.named_buffers(), *network.named_parameters()):
                tensor.copy_((buffers if name in buffers else parameters)[name][position])
    return means
