"""Linear classifiers under a smooth loss of the margin: damped Newton on a batch of problems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advunlearn.auditors.problem import Problem, Solution, solve

_TOLERANCE = 1e-13
_GOOD = 1e-8
_MOST_STEPS = 60
_LENGTHS = [2.0**-k for k in range(-3, 13)]


class SmoothLoss(NamedTuple):
    """Describe a convex loss of the margin by three elementwise functions of margins (b, n).

    `force` is minus the first derivative and `curvature` the second, of either side where it jumps. `chord` is the
    curvature of the parabola with its lowest point at margin 1 that touches the loss from above at the given margin.
    """

    force: Callable[[Tensor], Tensor]
    curvature: Callable[[Tensor], Tensor]
    chord: Callable[[Tensor], Tensor]


def _squared_curvature(margins: Tensor) -> Tensor:
    return 2.0 * (margins < 1.0).to(margins.dtype)


SMOOTH_LOSSES = {
    "squared_hinge": SmoothLoss(lambda m: 2.0 * (1.0 - m).clamp(min=0.0), _squared_curvature, _squared_curvature),
    "huber_hinge": SmoothLoss(
        force=lambda m: (1.0 - m).clamp(0.0, 1.0),
        curvature=lambda m: ((m > 0.0) & (m < 1.0)).to(m.dtype),
        chord=lambda m: (m < 1.0) / (1.0 - m).clamp(min=1.0),
    ),
}


class _Point(NamedTuple):
    theta: Tensor
    margins: Tensor
    force: Tensor
    gradient: Tensor
    error: Tensor


def _look(problem: Problem, loss: SmoothLoss, sizes: Tensor, theta: Tensor) -> _Point:
    margins = problem.margins(theta)
    force = loss.force(margins)
    gradient = problem.ridge * theta - problem.share * problem.pull(force)
    return _Point(theta, margins, force, gradient, (gradient.abs() / sizes).amax(-1, keepdim=True))


def minimise_smooth(problem: Problem, loss: SmoothLoss, theta: Tensor) -> Solution:
    """Minimise a smooth loss from `theta` (b, p) on; the result is exact to rounding where the loss is piecewise quadratic.

    Where the loss is straight it has no curvature and a Newton step may be unbounded, so far from the solution the
    curvature of `chord` is mixed in, which alone would converge from anywhere but slowly.
    """
    sizes = problem.column_sizes()
    point = _look(problem, loss, sizes, theta)
    stuck = torch.zeros_like(point.error, dtype=torch.bool)
    for step in range(_MOST_STEPS):
        done = (point.error <= _TOLERANCE) | stuck
        if step % problem.check_every == 0 and bool(done.all()):
            break
        caution = (100 * point.error.square()).clamp(max=1.0)
        curvature = torch.lerp(loss.curvature(point.margins), loss.chord(point.margins), caution)
        direction = -solve(problem.factor(problem.share * curvature), point.gradient)
        direction = torch.where(done, 0.0, direction)
        theta = point.theta + _length(problem, loss, point, direction) * direction
        last, point = point, _look(problem, loss, sizes, theta)
        stuck |= (point.error <= _GOOD) & (point.error > last.error / 4)
    return _finish(problem, loss, sizes, point)


def _length(problem: Problem, loss: SmoothLoss, point: _Point, direction: Tensor) -> Tensor:
    """Return 1 where a whole step leaves little slope, else the longest of `_LENGTHS` that stays before the lowest point.

    The objective is convex, so by doubling one comes within a factor of two of the lowest point along the direction.
    """
    move = problem.margins(direction)
    flat = (problem.ridge * point.theta * direction).sum(-1, keepdim=True)
    rise = (problem.ridge * direction.square()).sum(-1, keepdim=True)

    def slope(lengths: Tensor) -> Tensor:
        force = problem.share[..., None] * loss.force(point.margins[:, None] + lengths[..., None] * move[:, None])
        return flat + lengths * rise - (force * move[:, None]).sum(-1)

    start = (point.gradient * direction).sum(-1, keepdim=True)
    whole = torch.ones_like(start)
    end = slope(whole)
    fine = (end <= -0.1 * start) & (end >= 0.9 * start)
    if problem.check_every == 1 and bool(fine.all()):
        return whole
    lengths = move.new_tensor(_LENGTHS).expand(len(move), -1)
    before = slope(lengths) <= 0
    before[:, -1] = True
    longest = lengths.gather(1, before.to(torch.int8).argmax(1, keepdim=True))
    return torch.where(fine, whole, longest)


def _finish(problem: Problem, loss: SmoothLoss, sizes: Tensor, point: _Point) -> Solution:
    """Take a last plain Newton step where it helps, and keep its factor for the derivative."""
    curvature = problem.share * loss.curvature(point.margins)
    factor = problem.factor(curvature)
    last = _look(problem, loss, sizes, point.theta - solve(factor, point.gradient))
    better = last.error < point.error
    theta = torch.where(better, last.theta, point.theta)
    force = problem.share * torch.where(better, last.force, point.force)
    return Solution(theta, force, curvature, factor, converged=(point.error <= _GOOD)[:, 0])
