"""Divide audit examples into fitting problems, one per group and fold, that are solved as one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advunlearn.runtime.devices import to_device


def assign_folds(strata: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Return a fold number (n,) for each example, with every stratum spread as evenly as possible."""
    keys = torch.rand(len(strata), generator=generator, dtype=torch.float64)
    fold = torch.empty_like(strata)
    fold[torch.argsort(strata + keys)] = torch.arange(len(strata)) % folds
    return fold


@dataclass(frozen=True)
class Problems:
    """A padded batch of b fitting problems over n places each.

    Attributes:
        index: (b, n) long, the audit example at each place.
        train, heldout: (b, n) bool, the places for fitting and for testing; a padded place is in neither.
    """

    index: Tensor
    train: Tensor
    heldout: Tensor

    def to(self, device: torch.device) -> Problems:
        """Return these problems on the device."""
        return Problems(*(to_device(each, device) for each in (self.index, self.train, self.heldout)))


@dataclass(frozen=True)
class Classes:
    """The classes of n examples, on the CPU: the class `number` (n,) of each, from 0, and the sizes `counts` (c,)."""

    number: Tensor
    counts: Tensor


def classes_of(labels: Tensor) -> Classes:
    """Return the classes of the labels (n,)."""
    _, number, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return Classes(number, counts)


def cut_problems(
    classes: Classes, members: Tensor, folds: int, generator: torch.Generator, *, pooled: bool
) -> Problems:
    """Return one problem per class (or, pooled, for all classes) and fold: fit on the other folds, test on this one.

    Folds are stratified by class and membership: if one fold held more of a class's members, a classifier fitted on the
    others would learn that the class consists of non-members. A problem without members or non-members in its training
    or test part is left out: both its masks are empty.
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
