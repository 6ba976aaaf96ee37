"""What an auditor is: the follower of the game, a membership attack refitted as the model moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advunlearn.options import Component


@dataclass(frozen=True)
class Audit:
    """The auditor's best answer to one state of the model.

    Attributes:
        utility: scalar, how well it tells members from non-members on held-out folds; differentiable in the scores,
            through the auditor's optimum as well as through the held-out scores.
        accuracy: scalar in [0, 1], of its decisions on held-out folds, members and non-members counting the same.
        remark: what a person should know of how it was fitted, if anything; a run logs each remark once.
    """

    utility: Tensor
    accuracy: Tensor
    remark: str = ""


class Auditor(Component):
    """Base of all auditors. An unlearner knows nothing of one but its `utility`."""

    group: ClassVar[str] = "auditor"

    uninformed: ClassVar[float]
    """The utility of an auditor that cannot tell members from non-members."""

    on_device: ClassVar[bool] = False
    """Take scores on the network's device? By default they are on the CPU: many small operations are slower on a GPU,
    and each look at their result is a wait."""

    def reference_models(self) -> int:
        """Return how many reference models it compares with; with some, its score is `Evidence.ratio`."""
        return 0

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return the utility of this auditor's best answer to the scores.

        Args:
            member_scores, nonmember_scores: (n, d) and (m, d), of forget and audit examples under the model that moves;
                see `on_device`.
            member_labels, nonmember_labels: (n,) and (m,), their classes, on the CPU.
            generator: CPU stream that the folds are drawn from.
        """
        raise NotImplementedError
