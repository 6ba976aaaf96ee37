"""Exact unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from advunlearn.options import UserError, option
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner


@dataclass
class Retrain(Unlearner):
    """Train from scratch on the retain set, from other random streams than the gold standard.

    Its distance from the retrained model is what chance alone puts between two right answers.

    Attributes:
        draw: another number gives another such model.

    References:
        No publication.
    """

    reads: ClassVar[tuple[str, ...]] = ("retain",)

    draw: int = option(0, at_least=0)

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return a newly trained network.

        Raises:
            ValueError: if the task has no training setup.
        """
        if task.retrain is None:
            raise UserError("unlearner retrain needs a training setup: use advunlearn.run, or give train=")
        return Unlearned(task.retrain(f"retrain/{self.draw}" if self.draw else "retrain"))
