"""Minimise a batch of smooth objectives, and differentiate the minimisers: Newton's method by conjugate gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from advunlearn.auditors.threads import one_thread

logger = logging.getLogger(__name__)

Objective = Callable[[Tensor, Tensor], Tensor]
"""From parameters (b, p) and data (b, ...) to one value a problem (b,), twice differentiable."""

_MOST_STEPS = 200
_TOLERANCE = 1e-12
_HALVINGS = 30


def argmin(objective: Objective, data: Tensor, start: Tensor, damping: float) -> Tensor:
    """Return a local minimiser (b, p) of each problem, found from `start` (b, p), differentiable (once) in the data.

    With the gradient F(theta, data) of the objective by theta, the derivative of theta by the data is
    -(H + damping)^-1 dF/ddata with H = dF/dtheta, by the implicit function theorem (exact for damping 0). The system is
    solved by conjugate gradients on Hessian-vector products, which end at curvature that is not positive: what was
    found by then stands. A problem that stops short of a minimum is logged as a warning.
    """
    with one_thread(data):
        return _Argmin.apply(data, start, objective, damping)


class _Argmin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, data: Tensor, start: Tensor, objective: Objective, damping: float) -> Tensor:
        theta = minimise(objective, data, start)
        ctx.objective, ctx.damping = objective, damping
        ctx.save_for_backward(data, theta)
        return theta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, theta_grad: Tensor) -> tuple[Tensor | None, ...]:
        data, theta = ctx.saved_tensors
        data = data.detach().requires_grad_()
        with one_thread(data):
            _, gradient, product = _expand(ctx.objective, data, theta)
            adjoint = conjugate_gradients(lambda v: product(v) + ctx.damping * v, theta_grad, _TOLERANCE)
            (data_grad,) = torch.autograd.grad(gradient, data, -adjoint)
        return data_grad, None, None, None


def minimise(objective: Objective, data: Tensor, start: Tensor) -> Tensor:
    """Return a local minimiser (b, p) of each problem by line-search Newton-CG (Nocedal and Wright, algorithm 7.1)."""
    data, theta = data.detach(), start
    for _ in range(_MOST_STEPS):
        value, gradient, product = _expand(objective, data, theta)
        gradient = gradient.detach()
        size = gradient.norm(dim=-1, keepdim=True)
        going = size > _TOLERANCE
        if not bool(going.any()):
            return theta
        right = torch.where(going, gradient, 0.0)
        direction = -conjugate_gradients(product, right, size.sqrt().clamp(max=0.5))
        # Where the first curvature is not positive, downhill is all there is to go by.
        direction = torch.where((direction == 0).all(-1, keepdim=True), -right, direction)
        slope = (right * direction).sum(-1)
        theta = theta + _length(lambda t: objective(t, data), theta, value, slope, direction) * direction
    logger.warning("%d of %d networks stopped short of a minimum: raise regularization", int(going.sum()), len(start))
    return theta


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, tolerance: Tensor | float) -> Tensor:
    """Solve A x = right (b, p) for symmetric A, known by products with (b, p), to residuals of `tolerance` |right|.

    A problem that meets a direction of no positive curvature ends with what it has, at first zero.
    """
    x, residual = torch.zeros_like(right), right
    direction, square = residual, residual.square().sum(-1, keepdim=True)
    enough = square * tolerance**2
    for _ in range(4 * right.shape[-1]):
        going = square > enough
        if not bool(going.any()):
            break
        image = product(direction)
        curvature = (direction * image).sum(-1, keepdim=True)
        going &= curvature > 0
        length = torch.where(going, square / curvature, 0.0)
        x, residual = x + length * direction, residual - length * image
        after = torch.where(going, residual.square().sum(-1, keepdim=True), 0.0)
        direction = residual + torch.where(going, after / square, 0.0) * direction
        square = after
    return x


def _expand(objective: Objective, data: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Return the values (b,), their gradients by theta (b, p) with the graph behind them, and the Hessian's product."""
    theta = theta.detach().requires_grad_()
    with torch.enable_grad():
        value = objective(theta, data)
        (gradient,) = torch.autograd.grad(value.sum(), theta, create_graph=True)
    return value.detach(), gradient, lambda v: torch.autograd.grad(gradient, theta, v, retain_graph=True)[0]


def _length(
    objective: Callable[[Tensor], Tensor], theta: Tensor, value: Tensor, slope: Tensor, direction: Tensor
) -> Tensor:
    """Return the largest power of 1/2 (b, 1) along the direction that lowers the objective enough (Armijo)."""
    rounding = 8 * torch.finfo(value.dtype).eps * value.abs()
    length = torch.ones_like(value)
    for _ in range(_HALVINGS):
        short = objective(theta + length[:, None] * direction) > value + 1e-4 * length * slope + rounding
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    return length[:, None]
