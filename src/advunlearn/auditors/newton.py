"""Linear classifiers under a smooth loss of the margin: damped Newton on a batch of problems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advunlearn.auditors.problem import Problem, Solution, solve

_MOST_STEPS = 100
_LENGTHS = [2.0**-k for k in range(-3, 13)]
_HALVINGS = 6
_GOOD = 1e-8


class SmoothLoss(NamedTuple):
    """Describe a convex loss of the margin by three elementwise functions of margins (b, n).

    `force` is minus the first derivative and `curvature` the second, of either side where it jumps. `chord` is the
    curvature of the parabola with its lowest point at margin 1 that touches the loss from above at the given margin, or
    `curvature` itself for a loss that is straight nowhere.
    """

    force: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]
    chord: Callable[[Tensor], Tensor]


def _squared_curvature(margins: Tensor) -> Tensor:
    return 2.0 * (margins < 1.0).to(margins.dtype)


def _logistic_curvature(margins: Tensor) -> Tensor:
    return margins.sigmoid() * (-margins).sigmoid()


SMOOTH_LOSSES = {
    "squared_hinge": SmoothLoss(lambda m: 2.0 * (1.0 - m).clamp(min=0.0), _squared_curvature, _squared_curvature),
    "huber_hinge": SmoothLoss(
        force=lambda m: (1.0 - m).clamp(0.0, 1.0),
        curvature=lambda m: ((m > 0.0) & (m < 1.0)).to(m.dtype),
        chord=lambda m: (m < 1.0) / (1.0 - m).clamp(min=1.0),
    ),
    "logistic": SmoothLoss(lambda m: (-m).sigmoid(), _logistic_curvature, _logistic_curvature),
}


class _Point(NamedTuple):
    theta: Tensor
    margins: Tensor
    force: Tensor
    gradient: Tensor
    error: Tensor


def minimise_smooth(problem: Problem, loss: SmoothLoss, theta: Tensor) -> Solution:
    """Minimise a smooth loss from `theta` (b, p) on; the result is exact to rounding where the loss is piecewise
    quadratic.

    Where the loss is straight it has no curvature and a Newton step may be unbounded, so far from the solution the
    curvature of `chord` is mixed in, which alone would converge from anywhere, but slowly.
    """
    point = _look(problem, loss, theta)
    for step in range(_MOST_STEPS):
        done = point.error <= problem.rounding(point.theta)
        if step % problem.check_every == 0 and bool(done.all()):
            break
        factor = problem.factor(_steps_curvature(problem, loss, point))
        direction = solve(factor, point.gradient).neg_().masked_fill_(done, 0.0)
        trial = _look(problem, loss, point.theta + direction)
        start, end = ((at.gradient * direction).sum(-1, keepdim=True) for at in (point, trial))
        whole = (end <= -0.1 * start) & (end >= 0.9 * start)
        if problem.check_every > 1 or not bool(whole.all()):
            length = torch.where(whole, 1.0, _length(problem, loss, point, direction))
            trial = _look(problem, loss, point.theta + length * direction)
        point = trial
    return _finish(problem, loss, point)


def _look(problem: Problem, loss: SmoothLoss, theta: Tensor) -> _Point:
    margins = problem.margins(theta)
    force = loss.force(margins)
    # The share comes last: sums of whole forces are exact, so a bias that nothing holds does not drift with rounding.
    gradient = problem.ridge * theta - problem.share * problem.pull(force)
    error = torch.linalg.vector_norm(gradient / problem.sizes, torch.inf, dim=-1, keepdim=True)
    return _Point(theta, margins, force, gradient, error)


def _steps_curvature(problem: Problem, loss: SmoothLoss, point: _Point) -> Tensor:
    curvature = loss.curvature(point.margins)
    if loss.chord is not loss.curvature:
        caution = (point.error * (100 * point.error).clamp(min=0.01)).clamp(max=1.0)
        curvature = torch.lerp(curvature, loss.chord(point.margins), caution)
    return problem.share * curvature


def _length(problem: Problem, loss: SmoothLoss, point: _Point, direction: Tensor) -> Tensor:
    """Return the step length (b, 1) that leads to just before the lowest point along the direction."""
    move = problem.margins(direction)
    flat = (problem.ridge * point.theta * direction).sum(-1, keepdim=True)
    rise = (problem.ridge * direction.square()).sum(-1, keepdim=True)

    def falls(lengths: Tensor) -> Tensor:
        force = loss.force(point.margins[:, None] + lengths[..., None] * move[:, None])
        return flat + lengths * rise - problem.share * (force * move[:, None]).sum(-1) <= 0

    lengths = move.new_tensor(_LENGTHS).expand(len(move), -1)
    before = falls(lengths)
    before[:, -1] = True
    low = lengths.gather(1, before.to(torch.int8).argmax(1, keepdim=True))
    high = 2 * low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        falling = falls(middle)
        low, high = torch.where(falling, middle, low), torch.where(falling, high, middle)
    return low


def _finish(problem: Problem, loss: SmoothLoss, point: _Point) -> Solution:
    """Take a last plain Newton step where it helps, and keep its factor for the derivative."""
    curvature = problem.share * loss.curvature(point.margins)
    factor = problem.factor(curvature)
    last = _look(problem, loss, point.theta - solve(factor, point.gradient))
    better = last.error < point.error
    theta = torch.where(better, last.theta, point.theta)
    force = problem.share * torch.where(better, last.force, point.force)
    error = torch.where(better, last.error, point.error)
    return Solution(theta, force, curvature, factor, converged=(error <= _GOOD)[:, 0])
