"""Choose among an unlearner's epochs without the test set or the retrained model."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.data.comparable import comparable
from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.training.fit import Diverged, predict
from advunlearn.unlearners.unlearner import Task


def check_selection(
    forget: NDArray[np.int64], selection: NDArray[np.int64] | None, wish: str = "keep_epoch=best"
) -> None:
    """Raise if there are no held-out examples of the forget set's classes to choose an epoch on.

    Args:
        forget, selection: labels (n,) of these examples.
        wish: the option that asks for the choice.

    Raises:
        UserError: if there are none.
    """
    if selection is None:
        raise UserError(f"{wish} needs a selection set: held-out examples to choose the epoch on")
    if not np.isin(selection, forget).any():
        raise UserError(f"{wish} needs selection examples of the forget set's classes, got none")


class BestEpoch:
    """Evaluate the network on the selection set after each epoch, and keep the weights of the best epoch.

    The utility of an epoch is accuracy minus attack, as usual in the field:

        U = accuracy(selection) - max(AUC, 1 - AUC)

    with the AUC of the loss threshold (Yeom et al. 2018) between forget examples and selection examples of the same
    classes (see `comparable`). An AUC below 0.5 reveals the forget set as much as one above, hence the larger of
    the two; U is at most 0.5. Of equal epochs the earliest is the best.
    """

    def __init__(self, network: nn.Module, task: Task) -> None:
        assert task.selection is not None  # see `check_selection`
        self.network = network
        self.forget = task.forget
        self.selection = task.selection
        labels = [part.labels.cpu().numpy() for part in (task.forget, task.selection)]
        self.members, self.nonmembers, _ = comparable(*labels)
        self.chosen = 0
        self.weights: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    def judge(self, step: int) -> None:
        """Record the utility of the network at the end of an epoch, after `step` steps."""
        record = self.measured(step)
        if not self.records or record["utility"] > max(each["utility"] for each in self.records):
            self.chosen, self.weights = len(self.records), copy.deepcopy(self.network.state_dict())
        self.records.append(record)

    def measured(self, step: int) -> dict[str, Any]:
        """Return the record of the network after `step` steps, by column."""
        from sklearn.metrics import roc_auc_score

        members, _ = self._look(self.forget)
        others, right = self._look(self.selection)
        losses = torch.cat([members[self.members], others[self.nonmembers]]).numpy()
        if not np.isfinite(losses).all():
            raise Diverged("unlearning diverged (its losses are not finite)")
        auc = float(roc_auc_score(np.arange(len(losses)) < len(self.members), -losses))
        utility = right - max(auc, 1 - auc)
        return {"step": step, "selection_accuracy": right, "attack_auc": auc, "utility": utility}

    def _look(self, part: Examples) -> tuple[Tensor, float]:
        """Return the losses (n,) of these examples, float64, and the share of correct predictions."""
        logits, labels = predict(self.network, part).double(), part.labels.cpu()
        return F.cross_entropy(logits, labels, reduction="none"), (logits.argmax(1) == labels).double().mean().item()

    def restore(self) -> None:
        """Restore the weights of the best epoch, and BatchNorm's running statistics."""
        self.network.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the epochs so far, for a checkpoint."""
        return {"chosen": self.chosen, "weights": self.weights, "records": self.records}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        self.chosen, self.weights, self.records = state["chosen"], state["weights"], state["records"]

    def trace(self) -> dict[str, Any]:
        """Return the recorded columns, each a list of values, and the position of the chosen epoch."""
        columns = {name: [record[name] for record in self.records] for name in self.records[0]}
        return {"epochs": {**columns, "chosen": self.chosen}}
