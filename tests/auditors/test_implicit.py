"""Minimisers by Newton-CG and their derivatives, on objectives whose answers are known."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from advunlearn.auditors.implicit import argmin, conjugate_gradients, minimise


def quartic(theta: Tensor, data: Tensor) -> Tensor:
    return (theta.square().square() / 4 + theta.square() / 2 - data * theta).sum(1)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_minimiser_and_its_derivative_are_the_closed_form() -> None:
    data = (3 * draw(4, 5)).requires_grad_()
    theta = argmin(quartic, data, draw(4, 5, seed=1), damping=0.0)
    torch.testing.assert_close(theta**3 + theta, data, rtol=0, atol=1e-11)
    weights = draw(4, 5, seed=2)
    (gradient,) = torch.autograd.grad((weights * theta).sum(), data)
    torch.testing.assert_close(gradient, weights / (3 * theta.detach() ** 2 + 1), rtol=1e-9, atol=1e-12)


def test_damping_is_added_to_the_hessian() -> None:
    data = draw(3, 2).requires_grad_()
    theta = argmin(quartic, data, torch.zeros(3, 2, dtype=torch.float64), damping=0.7)
    (gradient,) = torch.autograd.grad(theta.sum(), data)
    torch.testing.assert_close(gradient, 1 / (3 * theta.detach() ** 2 + 1 + 0.7), rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    start = torch.zeros(2, 3, dtype=torch.float64)
    mixing = draw(3, 3)
    assert torch.autograd.gradcheck(
        lambda data: argmin(lambda theta, x: quartic(theta @ mixing, x) + theta.square().sum(1), data, start, 0.0),
        draw(2, 3, seed=1).requires_grad_(),
    )


def test_from_a_maximum_s_side_a_valley_is_found() -> None:
    start = torch.tensor([[0.1], [-0.2], [3.0]], dtype=torch.float64)
    theta = minimise(lambda theta, _: (theta.square() - 1).square().sum(1), torch.zeros(3, 1), start)
    torch.testing.assert_close(theta, torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_problem_without_minimum_is_said_and_the_others_are_solved(caplog: pytest.LogCaptureFixture) -> None:
    sign = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    with caplog.at_level(logging.WARNING):
        theta = minimise(lambda t, _: (sign * (t - 2).square() - (1 - sign) * t).sum(1), sign, torch.zeros_like(sign))
    assert theta[0].item() == pytest.approx(2)
    assert "1 of 2 networks stopped short of a minimum" in caplog.text


def test_conjugate_gradients_solve_and_end_at_negative_curvature() -> None:
    root = draw(3, 6, 6)
    matrices = root @ root.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    matrices[1] *= -1
    right = draw(3, 6, seed=1)
    solution = conjugate_gradients(lambda v: (matrices @ v[..., None])[..., 0], right, 1e-12)
    torch.testing.assert_close(solution[::2], torch.linalg.solve(matrices, right)[::2], rtol=1e-8, atol=1e-10)
    assert solution[1].abs().max() == 0
