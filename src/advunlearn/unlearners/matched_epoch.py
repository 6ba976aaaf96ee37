"""Choose the epoch whose error on the forget set matches that on held-out examples."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from advunlearn.unlearners.best_epoch import BestEpoch
from advunlearn.unlearners.unlearner import Task


class MatchedEpoch(BestEpoch):
    """Return to the epoch whose error on the forget set is nearest to a reference (SCRUB+R; Kurmanji et al. 2023).

    The reference is the last epoch's error on selection examples of the forget set's classes, in the same proportions.
    The utility of an epoch is minus the distance of its error from the reference; among equal epochs the earliest is
    chosen. The reference is known only after the last epoch, so the weights of all epochs are kept until then.
    """

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__(network, task)
        self.errors: list[list[float]] = []
        self.epochs: list[dict[str, Any]] = []

    def judge(self, step: int) -> None:
        """Record the errors of the network at the end of an epoch, after `step` steps."""
        self.records.append(self.measured(step))
        pairs = ((self.forget, self.members), (self.selection, self.nonmembers))
        self.errors.append([1 - self._look(part.subset(torch.as_tensor(rows)))[1] for part, rows in pairs])
        self.epochs.append(copy.deepcopy(self.network.state_dict()))
        reference = self.errors[-1][1]
        for record, (forget_error, _) in zip(self.records, self.errors, strict=True):
            record["utility"] = -abs(forget_error - reference)
        utilities = [record["utility"] for record in self.records]
        self.chosen = utilities.index(max(utilities))
        self.weights = self.epochs[self.chosen]

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the epochs so far, for a checkpoint."""
        return {"records": self.records, "errors": self.errors, "epochs": self.epochs, "chosen": self.chosen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.records, self.errors, self.epochs = state["records"], state["errors"], state["epochs"]
        self.chosen = state["chosen"]
        self.weights = self.epochs[self.chosen] if self.epochs else {}
