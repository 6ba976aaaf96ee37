"""Linear classifiers under the plain hinge: an interior-point method, then the exact solution on its active set."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advunlearn.auditors.solvers.problem import Problem, Solution, solve, solve_implicit

_GAP = 1e-9
_TOLERANCE = 1e-9
_MOST_STEPS = 60
_MOST_SWAPS = 12
_STIFFNESS = 1e8


class _Point(NamedTuple):
    """Primal and dual variables: margin = 1 - slack + surplus, 0 < force < share, slack and surplus > 0."""

    theta: Tensor
    force: Tensor
    slack: Tensor
    surplus: Tensor

    def moved(self, by: _Point, length: Tensor) -> _Point:
        return _Point(*(value + length * change for value, change in zip(self, by, strict=True)))


class _State(NamedTuple):
    """What a point violates: the two linear conditions (`error` for both), and complementarity on average (`gap`)."""

    stationarity: Tensor
    feasibility: Tensor
    error: Tensor
    gap: Tensor
    objective: Tensor
    allowed: Tensor

    @property
    def done(self) -> Tensor:
        return (self.gap <= _GAP * self.objective) & (self.error <= self.allowed)


def minimise_hinge(problem: Problem) -> Solution:
    """Minimise the hinge max(0, 1 - margin): Mehrotra's predictor and corrector, then the exact active-set solution.

    If no consistent active set is found, the result is the interior point: the exact minimiser, with the exact
    derivative, of a hinge smoothed by about 1e-9 of the objective.
    """
    point = _start(problem)
    state = _look(problem, point)
    stalled = torch.zeros_like(state.done)
    for step in range(_MOST_STEPS):
        done = state.done | stalled
        if step % problem.check_every == 0 and bool(done.all()):
            break
        trial = _advance(problem, point, state)
        after = _look(problem, trial)
        # Each step shrinks the linear errors, until rounding has eaten the factor: such a step is not taken.
        stalled |= ~(after.error <= torch.maximum(state.error, after.allowed)) & ~done
        stay = done | stalled
        point = _Point(*(torch.where(stay, old, new) for old, new in zip(point, trial, strict=True)))
        state = _State(*(torch.where(stay, old, new) for old, new in zip(state, after, strict=True)))
    return _polish(problem, point, state)


def _start(problem: Problem) -> _Point:
    batch, n, p = problem.rows.shape
    ones = problem.rows.new_ones(batch, n)
    return _Point(problem.rows.new_zeros(batch, p), problem.share * ones / 2, 1.5 * ones, 0.5 * ones)


def _look(problem: Problem, point: _Point) -> _State:
    stationarity = problem.ridge * point.theta - problem.pull(point.force)
    feasibility = problem.margins(point.theta) - 1 + point.slack - point.surplus
    error = torch.maximum((stationarity.abs() / problem.sizes).amax(-1), feasibility.abs().amax(-1))[:, None]
    ridge = (problem.ridge * point.theta.square()).sum(-1, keepdim=True) / 2
    objective = (ridge + (problem.share * point.slack).sum(-1, keepdim=True)).clamp(1e-12, 1.0)
    allowed = torch.maximum(_TOLERANCE * objective, problem.rounding(point.theta))
    return _State(stationarity, feasibility, error, _gap(problem, point), objective, allowed)


def _gap(problem: Problem, point: _Point) -> Tensor:
    products = point.force * point.surplus + (problem.share - point.force) * point.slack
    return products.mean(-1, keepdim=True) / (2 * problem.share)


def _elasticity(problem: Problem, point: _Point) -> Tensor:
    """Return how steeply the force grows as the margin falls, on the smoothed hinge that this point minimises."""
    return 1 / (point.slack / (problem.share - point.force) + point.surplus / point.force)


def _advance(problem: Problem, point: _Point, state: _State) -> _Point:
    """Take one predictor-corrector step, at most 0.995 of the way to the nearest bound."""
    room = problem.share - point.force
    elasticity = _elasticity(problem, point)
    factor = problem.factor(elasticity)

    def direction(lower: Tensor, upper: Tensor) -> _Point:
        wanted = upper / room - lower / point.force - state.feasibility
        theta = solve(factor, problem.pull(elasticity * wanted) - state.stationarity)
        force = elasticity * (wanted - problem.margins(theta))
        slack = (point.slack * force - upper) / room
        return _Point(theta, force, slack, (-lower - point.surplus * force) / point.force)

    def reach(step: _Point) -> Tensor:
        dual = torch.maximum(-step.force / point.force, step.force / room)
        primal = torch.maximum(-step.slack / point.slack, -step.surplus / point.surplus)
        return 1 / torch.maximum(dual, primal).amax(-1, keepdim=True).clamp(min=0.1)

    lower, upper = point.force * point.surplus, room * point.slack
    guess = direction(lower, upper)
    ahead = point.moved(guess, reach(guess).clamp(max=1.0))
    centre = (_gap(problem, ahead) / state.gap) ** 3 * state.gap * problem.share
    step = direction(lower + guess.force * guess.surplus - centre, upper - guess.force * guess.slack - centre)
    return point.moved(step, (0.995 * reach(step)).clamp(max=1.0))


def _polish(problem: Problem, point: _Point, state: _State) -> Solution:
    """Solve exactly for the active set at the interior point, moving the worst row while a sign is wrong."""
    share = problem.share
    idle = point.force <= share * state.objective * point.surplus
    full = (share - point.force <= share * point.slack) & ~idle
    rigid = ~(idle | full)
    stiffness = _stiffness(problem)
    theta, force, held = point.theta, point.force, torch.zeros_like(rigid)
    exact = torch.zeros_like(state.done)
    for _ in range(_MOST_SWAPS):
        trial, trial_force = _solve_set(problem, point, rigid, full, rigid * stiffness)
        beyond = problem.margins(trial) - 1
        wrong = torch.where(full, beyond, -beyond)
        out = torch.maximum(-trial_force / state.objective, trial_force - share) / share
        worst, row = torch.where(rigid, out, wrong).max(-1, keepdim=True)
        slip = torch.where(rigid, beyond.abs(), 0.0).amax(-1, keepdim=True)
        found = (torch.maximum(worst, slip) <= problem.rounding(trial).clamp(min=_TOLERANCE)) & ~exact
        theta, force = torch.where(found, trial, theta), torch.where(found, trial_force, force)
        held, exact = torch.where(found, rigid, held), exact | found
        if bool(exact.all()):
            break
        swap = torch.zeros_like(rigid).scatter_(-1, row, True)
        full = (full & ~swap) | (swap & rigid & (trial_force > share))
        rigid = rigid ^ swap
    curvature = torch.where(exact, held * stiffness, _elasticity(problem, point))
    return Solution(theta, force, curvature, problem.factor(curvature), (exact | state.done)[:, 0], held)


def _stiffness(problem: Problem) -> Tensor:
    """Return the curvature (b, n) that makes a rigid row 1e8 times stiffer than the regularization holds it."""
    squares = problem.rows[..., :-1].square().sum(-1)
    squares = torch.maximum(squares, 1e-8 * squares.amax(-1, keepdim=True)).clamp(min=1e-100)
    return (_STIFFNESS * problem.ridge[0] / squares).clamp(max=_STIFFNESS)


def _solve_set(
    problem: Problem, point: _Point, rigid: Tensor, full: Tensor, curvature: Tensor
) -> tuple[Tensor, Tensor]:
    """Return theta and forces with margin 1 on rigid rows, the whole share on full ones and 0 on the others."""
    right = problem.share * problem.pull(full.to(curvature.dtype))
    guess = (point.theta, torch.where(rigid, -point.force, 0.0))
    theta, reaction = solve_implicit(problem, problem.factor(curvature), curvature, rigid, right, 1.0, guess)
    return theta, torch.where(rigid, -reaction, problem.share * full)
