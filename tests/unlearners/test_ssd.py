"""Selective synaptic dampening, by hand."""

from __future__ import annotations

import copy

import torch
from torch import nn

from advunlearn.data.examples import Examples
from advunlearn.unlearners.ssd import SSD
from tests.unlearners.tasks import network, same, task


def test_four_weights_by_hand() -> None:
    whole, forget = torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.tensor([0.5, 10.0, 20.0, 200.0])
    assert SSD(selection=10).factors(whole, forget).tolist() == [1.0, 1.0, torch.tensor(1 / 20), torch.tensor(1 / 100)]
    stronger = SSD(selection=10, dampening=30).factors(whole, forget)  # which never enlarges a weight
    torch.testing.assert_close(stronger, torch.tensor([1.0, 1.0, 1.0, 0.3]))
    assert SSD(selection=10).factors(torch.zeros(1), torch.zeros(1)).tolist() == [1.0]  # a weight without any gradient


def test_a_network_of_four_weights_by_hand() -> None:
    """With equal logits p is one half, so a weight (c, j) has the squared gradient x_j^2 / 4 on each example."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 5.0], [3.0, 5.0]]))
    forget = Examples(torch.tensor([[4.0, 1.0]]), torch.tensor([0]))
    retain = Examples(torch.ones(3, 2), torch.tensor([0, 1, 1]))
    # Of input 0, I(D_f) = 16 / 4 and I(D) = (16 + 3) / 4 / 4; of input 1 both are 1 / 4.
    SSD(selection=2).unlearn(model, task(retain=retain, forget=forget))
    torch.testing.assert_close(model.weight, torch.tensor([[3 * 19 / 64, 5.0], [3 * 19 / 64, 5.0]]))


def test_nothing_is_selected_at_an_unreachable_threshold() -> None:
    original = network().eval()
    assert same(SSD(selection=1e9).unlearn(copy.deepcopy(original), task()).network, original)
