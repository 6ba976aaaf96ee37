"""The network auditor: logistic regression without units, and more than that with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.logistic import Logistic
from advunlearn.auditors.neural import Neural, expand, network


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
    value = network(theta[:, :8], torch.tensor([[[x, 1.0]]], dtype=torch.float64))
    assert value.item() == pytest.approx(2 * x + 0.5 + units)


@pytest.mark.parametrize("hidden", [0, 1, 4])
def test_the_derivatives_by_hand_are_automatic_differentiation_s(hidden: int) -> None:
    theta, inputs, sides, share, ridge = problem(hidden)
    value, gradient, hessian = expand(theta, inputs, sides, share, ridge)

    def objective(theta: Tensor) -> Tensor:
        losses = -F.logsigmoid(sides * network(theta, inputs))
        return (share * losses).sum(1) + (ridge / 2 * theta.square()).sum(1)

    torch.testing.assert_close(value, objective(theta), rtol=1e-13, atol=0)
    automatic = torch.autograd.functional.jacobian(objective, theta).diagonal(dim1=0, dim2=1).T
    torch.testing.assert_close(gradient, automatic, rtol=0, atol=1e-13)
    second = torch.autograd.functional.hessian(lambda theta: objective(theta).sum(), theta)
    torch.testing.assert_close(hessian, second.diagonal(dim1=0, dim2=2).permute(2, 0, 1), rtol=0, atol=1e-13)


def problem(hidden: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 3 + 4 * hidden, generator=generator, dtype=torch.float64)
    inputs = torch.randn(3, 9, 3, generator=generator, dtype=torch.float64)
    sides = torch.randn(3, 9, generator=generator, dtype=torch.float64).sign()
    share = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    return theta, inputs, sides, share, torch.rand(1, 3 + 4 * hidden, generator=generator, dtype=torch.float64)


def test_the_implicit_gradient_is_that_of_finite_differences() -> None:
    features = problem(0)[1]
    sides = torch.where(torch.arange(9) % 2 == 0, 1.0, -1.0).double().expand(3, 9)
    train = torch.arange(9) < torch.tensor([9, 7, 5])[:, None]
    auditor = Neural(hidden=3, regularization=0.02)

    def fit(x: Tensor) -> Tensor:
        return auditor.fit(x, sides, train, torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(fit, features.requires_grad_())
