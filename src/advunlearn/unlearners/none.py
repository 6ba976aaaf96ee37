"""No unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from advunlearn.unlearners.unlearner import Steps, Task, Unlearned, Unlearner


@dataclass
class None_(Unlearner):
    """Leave the original model as it is: what an audit finds where nothing was done.

    References:
        No publication.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    def steps(self, task: Task) -> list[Steps]:
        """Return no steps; see `Unlearner.steps`."""
        return []

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network unchanged."""
        return Unlearned(network)
