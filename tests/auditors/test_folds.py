"""Folds hold each stratum evenly, and a problem that lacks a side is left out."""

from __future__ import annotations

import pytest
import torch

from advunlearn.auditors.folds import assign_folds, classes_of, cut_problems


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_stratum_is_spread_evenly(folds: int) -> None:
    strata = torch.tensor([0] * 17 + [1] * 4 + [5] * 30)[torch.randperm(51, generator=torch.Generator().manual_seed(0))]
    fold = assign_folds(strata, folds, torch.Generator().manual_seed(1))
    for stratum in (0, 1, 5):
        counts = torch.bincount(fold[strata == stratum], minlength=folds)
        assert counts.max() - counts.min() <= 1
    counts = torch.bincount(fold, minlength=folds)
    assert counts.max() - counts.min() <= 1


def test_folds_are_redrawn_by_the_generator_and_only_by_it() -> None:
    strata = torch.zeros(40, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    first, second = assign_folds(strata, 3, generator), assign_folds(strata, 3, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, assign_folds(strata, 3, torch.Generator().manual_seed(0)))


def test_each_example_is_judged_once_by_a_fit_that_never_saw_it() -> None:
    groups = torch.tensor([3] * 12 + [7] * 20)
    members = torch.arange(32) % 2 == 0
    problems = cut_problems(classes_of(groups), members, 3, torch.Generator().manual_seed(0), pooled=False)
    judged = problems.index[problems.heldout]
    assert sorted(judged.tolist()) == list(range(32))
    assert not (problems.train & problems.heldout).any()
    for index, train, heldout in zip(problems.index, problems.train, problems.heldout, strict=True):
        used = index[train | heldout]
        assert len(used) == len(set(used.tolist()))
        assert len(groups[used].unique()) == 1
        assert len(used) == (groups == groups[used][0]).sum()


def test_a_problem_without_a_side_is_left_out_and_the_others_stay() -> None:
    groups = torch.tensor([0] * 8 + [1] * 8)
    members = torch.tensor([True] * 8 + [True, False] * 4)
    problems = cut_problems(classes_of(groups), members, 2, torch.Generator().manual_seed(0), pooled=False)
    assert sorted(problems.index[problems.heldout].tolist()) == list(range(8, 16))


def test_one_problem_for_all_classes_still_spreads_each_class() -> None:
    labels = torch.arange(60) % 10
    members = torch.arange(60) < 30
    problems = cut_problems(classes_of(labels), members, 3, torch.Generator().manual_seed(0), pooled=True)
    assert problems.index.shape == (3, 60)
    for index, heldout in zip(problems.index, problems.heldout, strict=True):
        strata = 2 * labels + members
        assert torch.bincount(strata[index[heldout]], minlength=20).tolist() == [1] * 20


def test_one_member_a_class_still_puts_members_into_every_fold() -> None:
    labels = torch.arange(50) % 10
    members = torch.arange(50) < 10
    problems = cut_problems(classes_of(labels), members, 5, torch.Generator().manual_seed(0), pooled=True)
    assert problems.heldout.any(1).all()
