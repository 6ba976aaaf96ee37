"""Linear classifiers under the plain hinge: an interior-point method, then the exact solution on the active set it found."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from advunlearn.auditors.problem import Problem, Solution, solve, solve_implicit

_GAP = 1e-9
_TOLERANCE = 1e-9
_MOST_STEPS = 60
_MOST_SWAPS = 12
_STIFFNESS = 1e8
_BIAS_RIDGE = 1e-8


class _Point(NamedTuple):
    """Primal and dual variables: margin = 1 - slack + surplus, 0 < force < share, slack and surplus > 0."""

    theta: Tensor
    force: Tensor
    slack: Tensor
    surplus: Tensor

    def moved(self, by: _Point, length: Tensor) -> _Point:
        return _Point(*(value + length * change for value, change in zip(self, by, strict=True)))


class _State(NamedTuple):
    """What a point violates: the two linear conditions, and complementarity on average (`gap`, as `objective` (b, 1))."""

    stationarity: Tensor
    feasibility: Tensor
    gap: Tensor
    objective: Tensor
    error: Tensor


def minimise_hinge(problem: Problem) -> Solution:
    ridge = problem.ridge.clone(); ridge[-1] = _BIAS_RIDGE
    point, state = _interior(replace(problem, ridge=ridge, damping=0.0))
    return _polish(problem, point, state)

def _interior(problem: Problem):
    """Minimise the hinge max(0, 1 - margin): Mehrotra's predictor and corrector, then the exact active-set solution.

    Where no active set is found consistent, the interior point stands: the exact minimiser, with the exact derivative,
    of a hinge smoothed by about 1e-9 of the objective.
    """
    sizes = problem.column_sizes()
    point = _start(problem)
    state = _look(problem, sizes, point)
    stalled = torch.zeros_like(state.gap, dtype=torch.bool)
    for step in range(_MOST_STEPS):
        done = (state.gap <= _GAP * state.objective) & (state.error <= _TOLERANCE)
        if step % problem.check_every == 0 and bool((done | stalled).all()):
            break
        trial = _advance(problem, point, state)
        after = _look(problem, sizes, trial)
        # A step leaves less of the linear residuals, unless rounding has eaten the factor: then it is the last.
        stalled |= ~(after.error <= state.error.clamp(min=_TOLERANCE)) & ~done
        stay = done | stalled
        point = _Point(*(torch.where(stay, old, new) for old, new in zip(point, trial, strict=True)))
        state = _State(*(torch.where(stay, old, new) for old, new in zip(state, after, strict=True)))
    return point, state


def _start(problem: Problem) -> _Point:
    batch, n, p = problem.rows.shape
    flat = problem.rows.new_ones(batch, n)
    return _Point(problem.rows.new_zeros(batch, p), problem.share * flat / 2, 1.5 * flat, 0.5 * flat)


def _look(problem: Problem, sizes: Tensor, point: _Point) -> _State:
    stationarity = problem.ridge * point.theta - problem.pull(point.force)
    feasibility = problem.margins(point.theta) - 1 + point.slack - point.surplus
    gap = _gap(problem, point)
    ridge = (problem.ridge * point.theta.square()).sum(-1, keepdim=True) / 2
    objective = (ridge + (problem.share * point.slack).sum(-1, keepdim=True)).clamp(1e-12, 1.0)
    error = torch.maximum((stationarity.abs() / sizes / objective).amax(-1), feasibility.abs().amax(-1))[:, None]
    return _State(stationarity, feasibility, gap, objective, error)


def _gap(problem: Problem, point: _Point) -> Tensor:
    products = point.force * point.surplus + (problem.share - point.force) * point.slack
    return products.mean(-1, keepdim=True) / (2 * problem.share)


def _elasticity(problem: Problem, point: _Point) -> Tensor:
    """Return how steeply the force grows as the margin falls, at this distance from the hinge's corner."""
    return 1 / (point.slack / (problem.share - point.force) + point.surplus / point.force)


def _advance(problem: Problem, point: _Point, state: _State) -> _Point:
    """Take one predictor-corrector step, 0.995 of the way to the nearest bound at most."""
    room = problem.share - point.force
    elasticity = _elasticity(problem, point)
    factor = problem.factor(elasticity)

    def direction(lower: Tensor, upper: Tensor) -> _Point:
        wanted = upper / room - lower / point.force - state.feasibility
        theta = solve(factor, problem.pull(elasticity * wanted) - state.stationarity)
        force = elasticity * (wanted - problem.margins(theta))
        return _Point(
            theta, force, (point.slack * force - upper) / room, (-lower - point.surplus * force) / point.force
        )

    def reach(to: _Point) -> Tensor:
        dual = torch.maximum(-to.force / point.force, to.force / room)
        primal = torch.maximum(-to.slack / point.slack, -to.surplus / point.surplus)
        return 1 / torch.maximum(dual, primal).amax(-1, keepdim=True).clamp(min=1e-9)

    lower, upper = point.force * point.surplus, room * point.slack
    guess = direction(lower, upper)
    ahead = point.moved(guess, reach(guess).clamp(max=1.0))
    centre = (_gap(problem, ahead) / state.gap) ** 3 * state.gap * problem.share
    step = direction(lower + guess.force * guess.surplus - centre, upper - guess.force * guess.slack - centre)
    return point.moved(step, (0.995 * reach(step)).clamp(max=1.0))


def _polish(problem: Problem, point: _Point, state: _State) -> Solution:
    """Solve exactly for the active set at the interior point, swapping the worst row while a sign is wrong."""
    share = problem.share
    idle = point.force <= share * state.objective * point.surplus
    full = (share - point.force <= share * point.slack) & ~idle
    rigid = ~(idle | full)
    reach = problem.rows[..., :-1].square().sum(-1).amax(-1, keepdim=True).clamp(min=1e-100)
    stiffness = _STIFFNESS * (problem.ridge[0] / reach).clamp(min=problem.damping)
    exact = torch.zeros_like(state.gap, dtype=torch.bool)
    theta, force, held = point.theta, point.force, torch.zeros_like(rigid)
    for _ in range(_MOST_SWAPS):
        curvature = rigid * stiffness
        right = share * problem.pull(full.to(share.dtype))
        new_theta, reaction = solve_implicit(problem, problem.factor(curvature), curvature, rigid, right, 1.0)
        new_force = torch.where(rigid, -reaction, full * share)
        beyond = problem.margins(new_theta) - 1
        wrong = torch.where(full, beyond, -beyond)
        wrong = torch.where(rigid, torch.maximum(-new_force / state.objective, new_force - share) / share, wrong)
        worst, row = wrong.max(-1, keepdim=True)
        loose = (rigid & (beyond.abs() > _TOLERANCE)).any(-1, keepdim=True)
        found = (worst <= _TOLERANCE) & ~loose & ~exact
        theta, force = torch.where(found, new_theta, theta), torch.where(found, new_force, force)
        held = torch.where(found, rigid, held)
        exact |= found
        if bool(exact.all()):
            break
        swap = torch.zeros_like(rigid).scatter_(-1, row, True)
        full = (full & ~swap) | (swap & rigid & (new_force > share))
        rigid = rigid ^ swap
    curvature = torch.where(exact, held * stiffness, _elasticity(problem, point))
    converged = exact | ((state.gap <= _GAP * state.objective) & (state.error <= _TOLERANCE))
    return Solution(theta, force, curvature, problem.factor(curvature), converged[:, 0], held)
