"""Boundary shrink: the nearest other class by hand, and training on it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.unlearners.boundary_shrink import BoundaryShrink, nearest_classes
from advunlearn.unlearners.finetune import Finetune
from tests.unlearners.tasks import mlp, same, task


def on_a_line() -> nn.Module:
    """Return a classifier of numbers by the nearest of -1, 0 and 1: its logits are minus the squared distances."""
    model = nn.Linear(1, 3)
    with torch.no_grad():
        model.weight.copy_(2 * torch.tensor([[-1.0], [0.0], [1.0]]))
        model.bias.copy_(-torch.tensor([1.0, 0.0, 1.0]))
    return model


@pytest.mark.parametrize("budget", [0.15, 0.01])  # with which 0.4 moves across the boundary at 0.5, and does not
def test_the_nearest_class_is_the_one_across_the_boundary(budget: float) -> None:
    inputs = torch.tensor([[-1.0], [-0.4], [0.4], [1.0]])
    found = nearest_classes(on_a_line(), inputs, torch.tensor([0, 1, 1, 2]), budget)
    assert found.tolist() == [1, 0, 2, 1]


def test_it_is_fine_tuning_on_the_other_classes() -> None:
    options = {"lr": 0.01, "epochs": 2, "batch_size": 16}
    forget = task().forget
    classes = nearest_classes(mlp(), forget.inputs, forget.labels, 0.1)  # type: ignore[arg-type]
    assert not (classes == forget.labels).any()
    tuned = Finetune(**options).unlearn(mlp(), task(retain=replace(forget, labels=classes))).network
    assert same(BoundaryShrink(**options).unlearn(mlp(), task()).network, tuned)


def test_inputs_that_are_no_real_numbers_are_refused_in_one_line() -> None:
    words = Examples(torch.arange(20).view(10, 2), torch.arange(10) % 2)
    says = "unlearner boundary_shrink changes inputs a little, so they must be real numbers, got torch.int64"
    with pytest.raises(UserError, match=re.escape(says)):
        BoundaryShrink().unlearn(nn.Embedding(20, 2), task(forget=words))
    by_name = Examples({"ids": torch.rand(10, 2)}, torch.arange(10) % 2)
    with pytest.raises(UserError, match="real numbers, got dict"):
        BoundaryShrink().unlearn(nn.Linear(2, 2), task(forget=by_name))
