"""Minimise a batch of smooth objectives of few parameters, and differentiate the minimisers."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from advunlearn.auditors.solvers.problem import solve
from advunlearn.runtime.threads import one_thread

logger = logging.getLogger(__name__)

Expansion = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From parameters (b, p) and data (b, ...) to each problem's value (b,), gradient (b, p) and Hessian (b, p, p) by the
parameters; the gradient is differentiable in the data."""

_MOST_STEPS = 200
_TOLERANCE = 1e-12
_FIRST_SHIFT = 0.3


def argmin(expand: Expansion, data: Tensor, start: Tensor, damping: float) -> Tensor:
    """Return a local minimiser (b, p) of each problem, found from `start` (b, p), differentiable (once) in the data.

    With the gradient F(theta, data) of the objective by theta, the derivative of theta by the data is
    -(H + damping)^-1 dF/ddata with H = dF/dtheta, by the implicit function theorem (exact for damping 0). It is that of
    one more Newton step from the minimum, theta - (H + damping)^-1 F(theta, data), with all but F held constant. Where
    H + damping is not positive definite, it is zero. A problem that stops short of a minimum is logged as a warning.
    """
    with one_thread(data):
        theta = minimise(expand, data, start)
        _, gradient, hessian = expand(theta, data)
        factor, failed = _factor(hessian.detach(), theta.new_full((len(theta),), damping))
        # A factor that does not exist is any but not a number.
        identity = torch.eye(theta.shape[1], dtype=factor.dtype, device=factor.device)
        factor = torch.where(failed[:, None, None], identity, factor)
        return theta - solve(factor, gradient.masked_fill(failed[:, None], 0.0))


@torch.no_grad()
def minimise(expand: Expansion, data: Tensor, start: Tensor) -> Tensor:
    """Return a local minimiser (b, p) of each problem by Newton's method with a shifted Hessian.

    The shift follows how well the quadratic model foretold the last step (Nielsen, Damping parameter in Marquardt's
    method, 1999, equation 2.4).
    """
    theta, (value, gradient, hessian) = start, expand(start, data)
    shift, growth = torch.full_like(value, _FIRST_SHIFT), torch.full_like(value, 2.0)
    rounding = 8 * torch.finfo(value.dtype).eps * value.abs()
    check_every = 1 if theta.device.type == "cpu" else 16  # on a GPU each look is a wait, longer than some steps
    for count in range(_MOST_STEPS):
        going = gradient.norm(dim=1) > _TOLERANCE
        if (count + 1) % check_every == 0 and not bool(going.any()):
            return theta
        factor, failed = _factor(hessian, shift)
        step = solve(factor, gradient)
        trial = theta - step
        ahead = expand(trial, data)
        foretold = ((shift.unsqueeze(1) * step + gradient) * step).sum(1) / 2
        ratio = (value - ahead[0] + rounding) / foretold
        better = (ratio > 1e-3) & ~failed & going
        trust = (1 - (2 * ratio - 1) ** 3).clamp(1 / 3, 1.0)
        shift = shift * torch.where(better, trust, growth)
        growth = torch.where(better, 2.0, 2 * growth)
        theta = torch.where(better[:, None], trial, theta)
        value, gradient, hessian = (
            torch.where(better.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(ahead, (value, gradient, hessian), strict=True)
        )
    logger.warning("%d of %d networks stopped short of a minimum: raise regularization", int(going.sum()), len(start))
    return theta


def _factor(hessian: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return Cholesky factors (b, p, p) of hessian (b, p, p) + shift (b,), and where they do not exist (b,)."""
    shifted = hessian.clone()
    shifted.diagonal(dim1=1, dim2=2).add_(shift.unsqueeze(1))
    factor, info = torch.linalg.cholesky_ex(shifted)
    return factor, info > 0
