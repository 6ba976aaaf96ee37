"""Random labels and gradient ascent, the losses that the leader may descend besides fine-tuning's."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from advunlearn.options import UserError
from advunlearn.runtime.settings import Settings
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.neggrad import NegGrad
from advunlearn.unlearners.random_label import RandomLabel, relabelled
from tests.unlearners.tasks import examples, mlp, network, same, task


def test_no_drawn_label_is_the_true_one_and_all_others_are_drawn() -> None:
    drawn = relabelled(task(forget=examples(3000, 1)))
    assert torch.equal(drawn.inputs, examples(3000, 1).inputs)
    pairs = F.one_hot(examples(3000, 1).labels).T @ F.one_hot(drawn.labels)
    assert (pairs.diag() == 0).all()
    # 1000 of a class over two others: within four deviations of a fair coin's.
    assert ((pairs[~torch.eye(3, dtype=torch.bool)] - 500).abs() < 4 * math.sqrt(1000 / 4)).all()


def test_labels_are_drawn_once_a_seed() -> None:
    first, again, other = (relabelled(task(settings=Settings(seed=s, device="cpu"))).labels for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_whole_class_is_relabelled_among_those_that_stay() -> None:
    zero, others = np.arange(0, 30, 3), np.setdiff1d(np.arange(60), np.arange(0, 60, 3))
    drawn = relabelled(task(retain=examples(60, 0).subset(others), forget=examples(30, 1).subset(zero)))
    assert set(drawn.labels.tolist()) == {1, 2}
    with pytest.raises(UserError, match="need a second class"):
        RandomLabel().check({"retain": np.zeros(20, int), "forget": np.zeros(10, int)})


def test_random_labels_are_fine_tuning_on_both_sets_together() -> None:
    options = {"epochs": 2, "batch_size": 16, "lr": 0.05}
    both = task(retain=task().retain.followed_by(relabelled(task())))
    tuned = Finetune(**options).unlearn(network(), both).network
    assert same(RandomLabel(**options).unlearn(network(), task()).network, tuned)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_neggrad_is_the_papers_loss_below_its_bound(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(50) % 5
    logits = torch.rand(50, 5, generator=generator) + 2 * F.one_hot(labels, 5)
    forgotten = torch.rand(50, generator=generator) < 0.2
    losses = F.cross_entropy(logits, labels, reduction="none")
    assert losses.max() < math.log(5)
    loss = NegGrad(forget_weight=weight).loss(logits, labels, forgotten)
    odds = (~forgotten).sum() / (forgotten.sum() * weight) if weight else math.inf
    beta = 1.0 if weight == 0 else odds / (1 + odds)
    paper = beta * losses[~forgotten].mean() - (1 - beta) * losses[forgotten].mean()
    scale = (~forgotten).float().mean() / beta
    torch.testing.assert_close(loss, scale * paper)


def test_neggrad_does_not_push_beyond_a_guess() -> None:
    labels = torch.tensor([0, 0, 0])
    logits = torch.tensor([[0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 1.0, 0.0]], requires_grad=True)
    loss = NegGrad(forget_weight=2.0).loss(logits, labels, torch.tensor([True, True, False]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[0] == 0).all()
    assert gradient[1, 0] > 0  # descent lowers the true class's logit of a forget example, and raises a retain one's
    assert gradient[2, 0] < 0


@pytest.mark.parametrize("unlearner", [RandomLabel, NegGrad])
def test_the_defaults_raise_the_forget_loss_and_keep_the_retain_set(unlearner: Any) -> None:
    everything = task(retain=examples(60, 0).followed_by(examples(30, 1)))
    original = Finetune(epochs=20).unlearn(mlp(), everything).network

    def after(method: Finetune) -> tuple[float, float]:
        model = method.unlearn(copy.deepcopy(original), task()).network
        retain, forget = examples(60, 0), examples(30, 1)
        right = (model(retain.inputs).argmax(1) == retain.labels).float().mean().item()
        return F.cross_entropy(model(forget.inputs), forget.labels).item(), right

    loss, right = after(unlearner())
    tuned, _ = after(Finetune(epochs=unlearner().epochs))
    assert loss > 1.5 * tuned
    assert right > 0.95
