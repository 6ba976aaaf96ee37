"""Minimisers by Newton's method and their derivatives, on objectives whose answers are known."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advunlearn.auditors.solvers.implicit import Expansion, argmin, minimise


def expansion(objective: Callable[[Tensor, Tensor], Tensor]) -> Expansion:
    """Return an objective's expansion by automatic differentiation."""

    def expand(theta: Tensor, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            value = objective(theta, data)
            (gradient,) = torch.autograd.grad(value.sum(), theta, create_graph=True)
            rows = [torch.autograd.grad(column.sum(), theta, retain_graph=True)[0] for column in gradient.T]
        return value.detach(), gradient, torch.stack(rows, 1)

    return expand


def quartic(theta: Tensor, data: Tensor) -> Tensor:
    return (theta.square().square() / 4 + theta.square() / 2 - data * theta).sum(1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_minimiser_and_its_derivative_are_the_closed_form() -> None:
    data = (3 * draw(4, 5)).requires_grad_()
    theta = argmin(expansion(quartic), data, draw(4, 5, seed=1), damping=0.0)
    torch.testing.assert_close(theta**3 + theta, data, rtol=0, atol=1e-11)
    weights = draw(4, 5, seed=2)
    (gradient,) = torch.autograd.grad((weights * theta).sum(), data)
    torch.testing.assert_close(gradient, weights / (3 * theta.detach() ** 2 + 1), rtol=1e-9, atol=1e-12)


def test_damping_is_added_to_the_hessian() -> None:
    data = draw(3, 2).requires_grad_()
    theta = argmin(expansion(quartic), data, torch.zeros(3, 2, dtype=torch.float64), damping=0.7)
    (gradient,) = torch.autograd.grad(theta.sum(), data)
    torch.testing.assert_close(gradient, 1 / (3 * theta.detach() ** 2 + 1 + 0.7), rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    start = torch.zeros(2, 2, dtype=torch.float64)
    mixing = draw(2, 2)
    expand = expansion(lambda theta, x: quartic(theta @ mixing, x) + theta.square().sum(1))
    assert torch.autograd.gradcheck(lambda x: argmin(expand, x, start, 0.0), draw(2, 2, seed=1).requires_grad_())


def test_from_a_maximum_s_side_a_valley_is_found() -> None:
    start = torch.tensor([[0.1], [-0.2], [3.0]], dtype=torch.float64)
    expand = expansion(lambda theta, _: (theta.square() - 1).square().sum(1))
    theta = minimise(expand, torch.zeros(3, 1), start)
    torch.testing.assert_close(theta, torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_problem_without_minimum_is_said_and_the_others_are_solved(caplog: pytest.LogCaptureFixture) -> None:
    sign = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    expand = expansion(lambda t, _: (sign * (t - 2).square() - (1 - sign) * t).sum(1))
    with caplog.at_level(logging.WARNING):
        theta = minimise(expand, sign, torch.zeros_like(sign))
    assert theta[0].item() == pytest.approx(2)
    assert "1 of 2 networks stopped short of a minimum" in caplog.text


def test_where_the_curvature_is_not_positive_the_derivative_is_zero_and_the_others_stay() -> None:
    # At theta = 0 the first problem has a maximum in its second parameter, at which the search stays.
    signs = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    data = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    expand = expansion(lambda theta, x: (signs * theta.square() / 2 - x * theta).sum(1))
    argmin(expand, data, torch.zeros(2, 2, dtype=torch.float64), 0.0).sum().backward()
    assert data.grad is not None
    assert data.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]
