"""SalUn, MSG and what they share: weights that a step must not move, and factors on gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.unlearners.gradients import Factors, mean_gradients
from advunlearn.unlearners.msg import MSG, PartlyFresh, convolution_weights, smallest_entries
from advunlearn.unlearners.random_label import RandomLabel
from advunlearn.unlearners.salun import Masked, SalUn, largest_entries
from advunlearn.unlearners.sg import SG
from tests.unlearners.tasks import examples, network, same, task, weights

HARD = {"lr": 0.1, "epochs": 2, "batch_size": 20, "momentum": 0.9, "weight_decay": 0.1}


def test_the_mean_gradient_is_that_of_all_examples_and_changes_nothing() -> None:
    model, part = network().train(), examples(30, 1)
    before = weights(model)
    found = mean_gradients(model, part, batch_size=13)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    loss = F.cross_entropy(model.eval()(part.inputs), part.labels)
    for gradient, wanted in zip(found, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_the_largest_and_the_smallest_entries_are_those_by_hand() -> None:
    tensors = [torch.tensor([[1.0, -5.0]]), torch.tensor([0.0, 3.0, -3.0])]
    assert [mask.tolist() for mask in largest_entries(tensors, 0.4)] == [[[False, True]], [False, True, False]]
    assert smallest_entries(torch.tensor([[2.0, -1.0], [-3.0, 1.0]]), 0.25).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_saluns_mask_has_its_share_and_holds_weights_to_the_bit(share: float) -> None:
    model = network()
    original, part = copy.deepcopy(model), examples(30, 1)
    descent = Masked(SalUn(share=share, **HARD), model, task())
    descent.run()
    masks = torch.cat([factor.flatten() for factor in descent.factors.factors.values()]).bool()
    assert int(masks.sum()) == round(share * len(masks))
    loss = F.cross_entropy(original.eval()(part.inputs), part.labels)
    salience = torch.cat([g.flatten().abs() for g in torch.autograd.grad(loss, list(original.parameters()))])
    if 0 < share < 1:
        assert salience[masks].min() >= salience[~masks].max()
    ends = [nn.utils.parameters_to_vector(each.parameters()) for each in (original, model)]
    assert torch.equal(ends[0][~masks], ends[1][~masks])
    assert bool((ends[0][masks] != ends[1][masks]).float().mean() > 0.9) or share == 0


def test_salun_with_all_weights_is_random_label() -> None:
    alone = RandomLabel(**HARD).unlearn(network(), task()).network
    assert same(alone, SalUn(share=1.0, **HARD).unlearn(network(), task()).network)


@pytest.mark.parametrize("optimizer_state", ["shared", "separate"])
def test_the_game_moves_no_masked_weight_either(optimizer_state: str) -> None:
    model = network()
    original = copy.deepcopy(model)
    SG(base=SalUn(share=0.2), alpha=5, optimizer_state=optimizer_state, audit_size=10, **HARD).unlearn(model, task())
    kept = [(a == b).flatten() for a, b in zip(original.parameters(), model.parameters(), strict=True)]
    count = sum(each.numel() for each in kept)
    assert int(torch.cat(kept).sum()) >= count - round(0.2 * count)
    assert not torch.cat(kept).all()


def test_a_factor_of_zero_holds_a_weight_and_its_momentum_for_that_step_only() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    free = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizers = [torch.optim.SGD([each], lr=0.1, momentum=0.9, weight_decay=0.5) for each in (weight, free)]
    factors = Factors({weight: torch.tensor([0.0, 1.0])})
    for held in (False, True, False):
        for each, optimizer in zip((weight, free), optimizers, strict=True):
            each.grad = torch.ones(2)
            before, momentum = weight.detach().clone(), optimizers[0].state[weight].get("momentum_buffer")
            momentum = None if momentum is None else momentum.clone()
            if held and each is weight:
                factors.step(optimizer, lambda: None)
                assert weight[0] == before[0]
                assert momentum is not None
                assert optimizer.state[weight]["momentum_buffer"][0] == momentum[0]
            else:
                optimizer.step()
    assert weight[1] == free[1]
    assert weight[0] > free[0]


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_msg_initialises_its_share_of_each_convolution_again(share: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    original = copy.deepcopy(model)
    PartlyFresh(MSG(share=share), model, task()).prepare()
    for before, after in zip(convolution_weights(original), convolution_weights(model), strict=True):
        assert int((before != after).sum()) == round(share * before.numel())
    others = [n for n in weights(model) if n not in ("0.weight", "2.weight")]
    assert all(torch.equal(weights(model)[name], weights(original)[name]) for name in others)


def test_msg_chooses_the_weights_on_which_both_sets_agree() -> None:
    model, kept = network(), task(retain=examples(30, 0))  # as many as are forgotten: all are in the sample
    original = copy.deepcopy(model)
    PartlyFresh(MSG(share=0.5), model, kept).prepare()
    gradients = []
    for part in (kept.retain, kept.forget):
        loss = F.cross_entropy(original.eval()(part.inputs), part.labels)
        gradients.append(torch.autograd.grad(loss, original[0].weight)[0])  # type: ignore[index, arg-type]
    difference = (gradients[0] - gradients[1]).abs()
    chosen = model[0].weight != original[0].weight  # type: ignore[index]
    assert difference[chosen].max() <= difference[~chosen].min()  # type: ignore[index]


def test_msgs_other_weights_move_by_the_factor_and_not_at_all_with_zero() -> None:
    once = {"epochs": 1, "batch_size": 60, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    ends, start = {}, network()
    PartlyFresh(MSG(), start, task()).prepare()
    for factor in (1.0, 0.1):
        ends[factor] = MSG(rest_factor=factor, **once).unlearn(network(), task()).network
    first, begun = network()[0].weight, start[0].weight  # type: ignore[index]
    rest = first == begun
    moved = {factor: (end[0].weight - begun).detach() for factor, end in ends.items()}  # type: ignore[index]
    torch.testing.assert_close(moved[0.1][rest], 0.1 * moved[1.0][rest], rtol=1e-3, atol=1e-8)  # type: ignore[index]
    torch.testing.assert_close(moved[0.1][~rest], moved[1.0][~rest])  # type: ignore[index]
    held = MSG(rest_factor=0.0, **HARD).unlearn(network(), task()).network[0].weight  # type: ignore[index]
    assert torch.equal(held[rest], first[rest])  # type: ignore[index, arg-type]
    assert not torch.equal(held[~rest], begun[~rest])  # type: ignore[index, arg-type]
