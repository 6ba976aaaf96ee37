"""Small tasks and networks that the tests of unlearners share."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.runtime.settings import Settings
from advunlearn.unlearners.unlearner import Task

CPU = Settings(device="cpu")


def examples(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = torch.randn(count, 1, 8, 8, generator=generator)
    return Examples(inputs + 0.5 * labels[:, None, None, None], labels)


def double(part: Examples) -> Examples:
    """Return the examples with inputs in float64."""
    return replace(part, inputs=part.inputs.double())


def task(**changes: Any) -> Task:
    parts = {"retain": examples(60, 0), "forget": examples(30, 1), "audit": examples(45, 2), "settings": CPU}
    return Task(**{**parts, **changes})


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def memorised(model: nn.Module, parts: list[Examples]) -> nn.Module:
    """Fit a model until it has memorised these examples."""
    inputs = torch.cat([part.inputs for part in parts])
    labels = torch.cat([part.labels for part in parts])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


@functools.cache
def _known(build: Callable[[], nn.Module]) -> nn.Module:
    return memorised(build(), [examples(60, 0), examples(30, 1)])


def known(build: Callable[[], nn.Module] = network) -> nn.Module:
    """Return a network that has memorised the retain and the forget set of `task`."""
    return copy.deepcopy(_known(build))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3))


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.flatten() for each in tensors])


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))
