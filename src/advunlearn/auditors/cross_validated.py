"""The base of auditors that are fitted to the audit examples: folds, groups, scaling, and the cap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.auditor import Audit, Auditor
from advunlearn.auditors.folds import Classes, classes_of, cut_problems
from advunlearn.options import option
from advunlearn.runtime.devices import to_device

_EXAMPLES_A_COLUMN = 5


@dataclass
class CrossValidated(Auditor):
    """Base class of auditors that fit a classifier on all folds but one and test it on that one.

    The utility is minus the mean held-out loss. Scores are centred per class and scaled by the standard deviation over
    the whole audit batch, both treated as constants by the gradient. Scaled per class, a column of small spread would
    dominate the others.

    Attributes:
        folds: number of folds, which are stratified by class and membership.
        groups: `class` fits one classifier per class, `pooled` one for all, and `auto` one per class if every class has
            at least five examples per column.
        capped: reward the leader for hiding only. The held-out loss is unbounded, and rewards pushing forget examples
            to the other side of the auditor's boundary, where they are as easily detected as before.
    """

    folds: int = option(3, at_least=2)
    groups: str = option("auto", choices=("auto", "class", "pooled"))
    capped: bool = option(True)

    uninformed: ClassVar[float] = -math.log(2)

    def fit(self, features: Tensor, sides: Tensor, train: Tensor, generator: torch.Generator) -> Tensor:
        """Fit one classifier per problem, and return its decision value for every row.

        Args:
            features: (b, n, d), float64; the result is differentiable in them, through the fit as well.
            sides: (b, n), +1 for members and -1 for non-members.
            train: (b, n) of bool, the rows to fit to: members and non-members, or none at all.
            generator: CPU stream for random draws of the fit.

        Returns:
            (b, n), large for members, and 0 on the boundary.
        """
        raise NotImplementedError

    def heldout_loss(self, margins: Tensor) -> Tensor:
        """Return the loss of margins = sides * decision values, elementwise; of the margin 0 it is -`uninformed`.

        By default it is the log loss, in nats.
        """
        return -F.logsigmoid(margins)

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return minus the mean held-out loss, at least `uninformed` if capped; `uninformed` if no fold can be fitted.

        See `Auditor.utility`.
        """
        scores = torch.cat([member_scores, nonmember_scores]).double()
        labels = torch.cat([member_labels, nonmember_labels])
        members = torch.arange(len(labels)) < len(member_labels)
        classes = classes_of(labels)
        scores = standardise(scores, classes)
        needed = _EXAMPLES_A_COLUMN * scores.shape[1]
        scarce = self.groups == "auto" and int(classes.counts.min()) < needed
        pooled = self.groups == "pooled" or scarce
        problems = cut_problems(classes, members, self.folds, generator, pooled=pooled).to(scores.device)
        features = scores[problems.index]
        sides = to_device(torch.where(members, 1.0, -1.0).double(), scores.device)[problems.index]
        margins = sides * self.fit(features, sides, problems.train, generator)
        heldout, total = problems.heldout, problems.heldout.sum()
        loss = self.heldout_loss(margins).masked_fill(~heldout, 0.0).sum(1)
        if self.capped:
            loss = torch.minimum(loss, -self.uninformed * heldout.sum(1).double())
        return Audit(
            utility=torch.where(total > 0, -loss.sum() / total.clamp(min=1), self.uninformed),
            accuracy=0.5 + 0.5 * (margins.detach().sign() * heldout).sum() / total.clamp(min=1),
            remark=f"one auditor for all classes: some have fewer than {needed} examples" if scarce else "",
        )


def standardise(scores: Tensor, classes: Classes) -> Tensor:
    """Return the scores (n, d) less their class's mean, each column at deviation 1, or unscaled where it is constant.

    Less the mean, one classifier can serve all classes. Mean and deviation are constants: no gradient runs through
    them.
    """
    fixed = scores.detach()
    number, counts = (to_device(each, scores.device) for each in (classes.number, classes.counts))
    sums = fixed.new_zeros(len(counts), fixed.shape[1]).index_add_(0, number, fixed)
    centred = scores - (sums / counts[:, None])[number]
    deviation = centred.detach().std(0, correction=0)
    # Where every class has one example or equal ones, rounding is all that is left: scaled up, it would drive the game.
    constant = deviation <= 1e-9 * fixed.abs().amax(0)
    return centred / deviation.masked_fill(constant, 1.0)
