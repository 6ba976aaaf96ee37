"""The interface of auditors: the follower of the game, a membership attack that is refitted as the model changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from advunlearn.auditors.scores import reference_evidence
from advunlearn.options import Component
from advunlearn.shadows.outputs import ShadowOutputs

ReferenceRows = Literal["half", "retained"]


class References(Protocol):
    """What reference models say of examples, as an auditor uses it."""

    def scores(self, margins: Tensor) -> Tensor:
        """Return the auditor's scores (n, d) of logit margins (n,), differentiable in them."""

    def subset(self, index: Tensor) -> References:
        """Return the same for the examples at these positions."""


@dataclass(frozen=True)
class Audit:
    """The auditor's best answer to one state of the model.

    Attributes:
        utility: scalar, how well it separates members from non-members on held-out folds; differentiable in the scores,
            through the auditor's optimum as well as through the held-out scores.
        accuracy: scalar in [0, 1], the balanced accuracy of its decisions on held-out folds.
        remark: a note for the user on how it was fitted, or nothing; a run logs each remark once.
    """

    utility: Tensor
    accuracy: Tensor
    remark: str = ""


class Auditor(Component):
    """Base class of auditors; an unlearner uses only its `utility`."""

    group: ClassVar[str] = "auditor"

    uninformed: ClassVar[float]
    """The utility of an auditor that cannot tell members from non-members."""

    on_device: ClassVar[bool] = False
    """Whether it takes scores on the network's device. By default they are on the CPU: many small operations are slower
    on a GPU, and each access to their result is a wait."""

    def reference_models(self) -> int:
        """Return how many reference models it uses; if any, its scores are those of `evidence`."""
        return 0

    def reference_rows(self) -> ReferenceRows:
        """Return on how many rows each is trained: `half` of the pool, or as many as are `retained`."""
        return "half"

    def evidence(
        self,
        outputs: Sequence[ShadowOutputs],
        labels: Sequence[Tensor],
        original: Callable[[], Tensor],
        generator: torch.Generator,
    ) -> References:
        """Return what reference models say of each forget example, and then of each audit example.

        Args:
            outputs, labels: of the forget and of the audit examples.
            original: returns the logit margins of the original model on both, (n,), float64, on the CPU.
            generator: CPU stream.
        """
        return reference_evidence(outputs, labels)

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
            member_scores, nonmember_scores: (n, d) and (m, d), of forget and audit examples under the current model;
                see `on_device`.
            member_labels, nonmember_labels: (n,) and (m,), their classes, on the CPU.
            generator: CPU stream for drawing the folds.
        """
        raise NotImplementedError
