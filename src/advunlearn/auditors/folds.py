"""Cut audit examples into problems, one a group and fold, that are solved in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advunlearn.runtime.devices import to_device


def assign_folds(strata: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Return a fold number (n,) for each example, drawn so that folds hold every stratum as evenly as can be."""
    keys = torch.rand(len(strata), generator=generator, dtype=torch.float64)
    fold = torch.empty_like(strata)
    fold[torch.argsort(strata + keys)] = torch.arange(len(strata)) % folds
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

    def to(self, device: torch.device) -> Problems:
        """Return these problems on the device."""
        return Problems(*(to_device(each, device) for each in (self.index, self.train, self.heldout)))


@dataclass(frozen=True)
class Classes:
    """The classes of n examples, on the CPU: `number` (n,) of each example's, from 0, and the size `counts` (c,)."""

    number: Tensor
    counts: Tensor


def classes_of(labels: Tensor) -> Classes:
    """Return the classes of the labels (n,)."""
    _, number, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return Classes(number, counts)


def cut_problems(
    classes: Classes, members: Tensor, folds: int, generator: torch.Generator, *, pooled: bool
) -> Problems:
    """Return one problem a class (or, pooled, one for all) and fold: fit on the other folds, judge on this one.

    Folds are stratified by class and membership: where a class has more of its members in one fold, a machine fitted on
    the others takes it for a class of non-members. A problem that lacks a member or a non-member on either side is left
    out, with both its masks empty.
    """
    fold = assign_folds(classes.number + members * len(classes.counts), folds, generator)
    if pooled:
        index = torch.arange(len(fold))[None]
        fold = fold[None]
    else:
        counts = classes.counts[:, None]
        place = torch.arange(int(counts.max()))
        order = torch.argsort(classes.number, stable=True)
        index = order[(counts.cumsum(0) - counts + place).clamp(max=len(fold) - 1)]
        fold = fold[index].masked_fill(place >= counts, -1)

    heldout = fold[:, None] == torch.arange(folds)[:, None]
    used = torch.stack([heldout ^ (fold >= 0)[:, None], heldout]).flatten(1, 2)
    index = index.repeat_interleave(folds, 0)
    is_member = members[index]
    whole = (used & is_member).any(-1) & (used & ~is_member).any(-1)
    train, heldout = used & whole.all(0)[:, None]
    return Problems(index, train, heldout)
