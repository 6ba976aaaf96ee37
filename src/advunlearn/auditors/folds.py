"""Cut audit examples into problems, one a group and fold, that are solved in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def assign_folds(strata: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Return a fold number (n,) for each example, drawn so that folds hold every stratum as evenly as can be."""
    keys = torch.rand(len(strata), generator=generator, dtype=torch.float64).to(strata.device)
    fold = torch.empty_like(strata)
    fold[torch.argsort(strata + keys)] = torch.arange(len(strata), device=strata.device) % folds
    return fold


@dataclass(frozen=True)
class Problems:
    """A padded batch of b fitting problems over n places each.

    Attributes:
        index: (b, n) long, which audit example stands in each place.
        train, heldout: (b, n) bool, the places to fit on and to judge on; a padded place is in neither.
    """

    index: Tensor
    train: Tensor
    heldout: Tensor


def cut_problems(labels: Tensor, members: Tensor, folds: int, generator: torch.Generator, *, pooled: bool) -> Problems:
    """Return one problem a class (or, pooled, one for all) and fold: fit on the other folds, judge on this one.

    Folds are stratified by class and membership: where a class has more of its members in one fold, a machine fitted on
    the others takes it for a class of non-members. A problem that lacks a member or a non-member on either side is left
    out, with both its masks empty.
    """
    fold = assign_folds(labels + members * (labels.max() + 1), folds, generator)
    groups = torch.zeros_like(labels) if pooled else labels
    _, group, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    order = torch.argsort(group, stable=True)
    place = torch.arange(len(groups), device=groups.device) - (counts.cumsum(0) - counts)[group[order]]
    index = groups.new_zeros((len(counts), int(counts.max())))
    present = torch.zeros_like(index, dtype=torch.bool)
    index[group[order], place] = order
    present[group[order], place] = True

    number = torch.arange(folds, device=groups.device)[None, :, None]
    train = (present[:, None] & (fold[index][:, None] != number)).flatten(0, 1)
    heldout = (present[:, None] & (fold[index][:, None] == number)).flatten(0, 1)
    index = index.repeat_interleave(folds, 0)
    is_member = members[index]
    sides = (train & is_member, train & ~is_member, heldout & is_member, heldout & ~is_member)
    whole = torch.stack([side.any(1) for side in sides]).all(0)[:, None]
    return Problems(index, train & whole, heldout & whole)
