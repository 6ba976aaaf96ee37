"""The network auditor: logistic regression without units, and more than that with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advunlearn.auditors.logistic import Logistic
from advunlearn.auditors.neural import Neural, network


def draw(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    members = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    others = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return members, others, torch.arange(n) % 2


@pytest.mark.parametrize("groups", ["class", "pooled"])
@pytest.mark.parametrize("capped", [True, False])
def test_without_units_it_is_logistic_regression(groups: str, capped: bool) -> None:
    members, others, labels = draw(40, 0)
    found = []
    for auditor in (Neural(hidden=0, groups=groups, capped=capped), Logistic(groups=groups, capped=capped)):
        both = torch.cat([members + 1, others]).requires_grad_()
        audit = auditor.utility(both[:40], both[40:], labels, labels, torch.Generator().manual_seed(1))
        found.append((audit.utility.detach(), audit.accuracy, torch.autograd.grad(audit.utility, both)[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    assert found[0][2].abs().max() > 1e-4


def test_units_see_what_no_line_can() -> None:
    members, others, labels = draw(100, 0)
    seen = [
        auditor.utility(0.3 * members, others, labels, labels, torch.Generator().manual_seed(1))
        for auditor in (Neural(), Logistic())
    ]
    assert seen[0].accuracy > 0.75
    assert seen[0].utility > -0.6
    assert seen[1].accuracy < 0.6
    assert seen[1].utility < -0.65


def test_the_same_stream_gives_the_same_fit_and_another_stream_another() -> None:
    members, others, labels = draw(30, 0)
    first, again, other = (
        Neural().utility(0.3 * members, others, labels, labels, torch.Generator().manual_seed(seed)).utility.item()
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_network_is_its_formula() -> None:
    theta = torch.tensor([[2.0, 0.5, 3.0, -1.0, 0.1, 0.4, 0.2, -0.3]], dtype=torch.float64)
    x = 0.7
    units = 3 * math.tanh(0.1 * x + 0.2) - math.tanh(0.4 * x - 0.3)
    value = network(theta[:, :8], torch.tensor([[[x]]], dtype=torch.float64), hidden=2)
    assert value.item() == pytest.approx(2 * x + 0.5 + units)
