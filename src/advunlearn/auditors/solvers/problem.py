"""A batch of linear classifiers as one problem, and the linear systems that its solvers and its derivative share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Problem:
    """b problems: minimise share * sum_i loss(margin_i) + regularization / 2 ||w||^2 over theta = (w, bias).

    theta is (b, p).
    `rows` (b, n, p) are the examples with a one appended for the bias, times their label, and zero for a padded
    row; the margins are rows @ theta. `columns` (b, p, n) is the same array transposed, laid out for speed. `share`
    (b, 1) is one over the number of rows without padding; `ridge` (p,) is the regularization, and 0 for the bias;
    `damping` (b, 1) replaces that 0 when a system is factored, in case no curvature determines the bias.
    """

    rows: Tensor
    columns: Tensor
    share: Tensor
    ridge: Tensor
    damping: Tensor

    @cached_property
    def check_every(self) -> int:
        """Return the number of steps between two convergence checks: on a GPU each check is a wait."""
        return 1 if self.rows.device.type == "cpu" else 4

    @cached_property
    def sizes(self) -> Tensor:
        """Return the mean absolute value (b, p) of each column, at least 1e-4 of the largest."""
        sizes = self.share * self.columns.abs().sum(-1)
        return torch.maximum(sizes, 1e-4 * sizes.amax(-1, keepdim=True)).clamp(min=1e-100)

    @cached_property
    def column_rounding(self) -> Tensor:
        """Return a bound (b, p) on the rounding error per column: some units of its largest absolute value."""
        return 8 * _EPS * self.columns.abs().amax(-1)

    @cached_property
    def floor(self) -> Tensor:
        """Return the diagonal (b, p) without any curvature: the ridge, and the damping for the bias."""
        return torch.cat([self.ridge[:-1].expand(len(self.rows), -1), self.damping], -1)

    def rounding(self, theta: Tensor) -> Tensor:
        """Return the size (b, 1) of the rounding errors in the margins of theta."""
        return torch.linalg.vector_norm(self.column_rounding * theta, 1, dim=-1, keepdim=True).add_(8 * _EPS)

    def margins(self, theta: Tensor) -> Tensor:
        """Return the margins (b, n) of theta (b, p)."""
        return torch.bmm(theta.unsqueeze(1), self.columns).squeeze(1)

    def pull(self, force: Tensor) -> Tensor:
        """Return the force on theta (b, p) from forces on the margins (b, n): rows' @ force."""
        return torch.bmm(force.unsqueeze(1), self.rows).squeeze(1)

    def factor(self, curvature: Tensor) -> Tensor:
        """Return the Cholesky factor (b, p, p) of diag(ridge) + rows' diag(curvature) rows, for curvature (b, n) >= 0.

        The diagonal is raised by `damping` and by a bound on its rounding error, for collinear columns under a tiny
        ridge; the solver's next step corrects this. If the factorisation still fails, the factor of the diagonal is
        returned, with which a step is still a descent.
        """
        hessian = torch.bmm(self.columns * curvature.unsqueeze(1), self.rows)
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal.add_(self.floor).mul_(1 + 2 * diagonal.shape[-1] * _EPS)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        if self.check_every == 1 and not bool(failed.any()):
            return factor
        return torch.where(failed[:, None, None] > 0, torch.diag_embed(diagonal.sqrt()), factor)


@dataclass(frozen=True)
class Solution:
    """A solver's theta (b, p), whether each problem `converged` (b,), and the parts of the derivative of theta.

    `force` (b, n) is minus the derivative of the objective by each margin, `curvature` (b, n) the second derivative,
    `factor` (b, p, p) the matching `Problem.factor`. `rigid` (b, n) marks margins that the hinge fixes at exactly 1,
    for which `curvature` is only a large number; it is None for a smooth loss. `pins` (b, n) sums to 1 in a problem
    whose bias `centre_bias` placed between the rows that it marks, and to 0 in the others; it is None if there is no
    such problem.
    """

    theta: Tensor
    force: Tensor
    curvature: Tensor
    factor: Tensor
    converged: Tensor
    rigid: Tensor | None = None
    pins: Tensor | None = None


def centre_bias(problem: Problem, solution: Solution, kinks: tuple[float, ...]) -> Solution:
    """Return the solution with the bias in the middle of its interval wherever an interval of biases is optimal.

    That is where no row has curvature. The interval ends at the nearest rows on both sides that would come to a margin
    at which the loss has a kink; the derivative of the bias is then theirs.
    """
    signs = problem.rows[..., -1]
    flat = signs.any(-1) & ~(solution.curvature * signs).any(-1)
    if not bool(flat.any()):
        return solution
    bias = solution.theta[:, -1:]
    values = signs * problem.margins(solution.theta) - bias
    ends = torch.cat([signs * kink - values for kink in kinks], -1)
    absent = (signs == 0).repeat(1, len(kinks))
    above, highest = torch.where(absent | (ends < bias), torch.inf, ends).min(-1, keepdim=True)
    below, lowest = torch.where(absent | (ends > bias), -torch.inf, ends).max(-1, keepdim=True)
    pins = torch.zeros_like(ends).scatter_add_(-1, torch.cat([highest, lowest], -1), 0.5 * torch.ones_like(ends[:, :2]))
    pins = pins.unflatten(-1, (len(kinks), -1)).sum(1) * flat[:, None]
    theta = solution.theta.clone()
    theta[:, -1] = torch.where(flat, ((above + below) / 2)[:, 0], theta[:, -1])
    return replace(solution, theta=theta, pins=pins)


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve systems with Cholesky factors (b, p, p) for right-hand sides (b, p)."""
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)


def adjoint(problem: Problem, solution: Solution, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return u (b, p) and v (b, n) with Hessian u = gradient (b, p) and v_i how the force on row i echoes u."""
    u, v = solve_implicit(problem, solution.factor, solution.curvature, solution.rigid, gradient)
    if solution.pins is None:
        return u, v
    pinned = solution.pins.sum(-1, keepdim=True) > 0
    hold = solution.pins * problem.rows[..., -1] * gradient[:, -1:]
    free = torch.where(problem.ridge > 0, (gradient - problem.pull(hold)) / problem.ridge, 0.0)
    return torch.where(pinned, free, u), torch.where(pinned, hold, v)


def solve_implicit(
    problem: Problem,
    factor: Tensor,
    curvature: Tensor,
    rigid: Tensor | None,
    right: Tensor,
    level: float = 0.0,
    guess: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Solve ridge * u + rows' v = right with v = curvature * margins(u), but margins(u) = level on the rigid rows.

    `factor` is that of the system in which rigid rows give way, with their `curvature` for a stiffness; refinement
    takes out what they gave. Unlike a factor of the rigid system it exists when rigid rows depend on each other, and
    then the v nearest to the guess's is found.

    Returns:
        u (b, p) and v (b, n).
    """
    u = solve(factor, right) if guess is None else guess[0]
    v = curvature * problem.margins(u) if guess is None else guess[1]
    for _ in range((2 if rigid is None else 4) - (guess is None)):
        if rigid is not None:
            v = v + curvature * torch.where(rigid, problem.margins(u) - level, 0.0)
        change = solve(factor, right - problem.ridge * u - problem.pull(v))
        u, v = u + change, v + curvature * problem.margins(change)
    return u, v
