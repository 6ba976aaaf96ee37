"""The game's auditor as a support vector machine: fitted exactly, in batches, and differentiable in what it was fitted to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from advunlearn.auditors.interior_point import minimise_hinge
from advunlearn.auditors.newton import SMOOTH_LOSSES, minimise_smooth
from advunlearn.auditors.problem import Problem, Solution, solve_implicit

logger = logging.getLogger(__name__)

LOSSES = (*SMOOTH_LOSSES, "hinge")
_LARGEST = 1e100


def fit_svm(
    features: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    regularization: float,
    loss: str = "squared_hinge",
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Fit b linear support vector machines at once; the result is differentiable (once) in the features.

    Each minimises, over the rows that its mask keeps and with margins m_i = y_i (w . x_i + bias),

        mean_i loss(m_i) + regularization / 2 ||w||^2 + 1e-8 / 2 bias^2

    with the loss max(0, 1 - m)^2 (`squared_hinge`), max(0, 1 - m) (`hinge`), or the hinge with its corner rounded by a
    parabola for 0 < m < 1 (`huber_hinge`). Nothing is scaled, and nothing is random. The derivative is that of the exact
    solution, by the implicit function theorem. Both cost O(n d min(n, d)) a problem.

    A problem whose rows all have one label gets w = 0 and that label as its bias, a problem without rows gets zeros; both
    have the derivative zero, and touch no other problem in the batch.

    Args:
        features: (b, n, d), of any float type; the arithmetic and the result are float64, the gradient is of this type.
        labels: (b, n), -1 or +1, of any type.
        mask: (b, n) of bool, False for padding (which may hold anything); None keeps all rows.
        regularization: above 0. Below about 1e-12 of the features' mean square, rounding limits what can be reached.
        loss: `squared_hinge`, `huber_hinge` or `hinge`.
        start: weights (b, d) and biases (b) to start from, such as an earlier result; ignored by `hinge`.

    Returns:
        weights (b, d) and biases (b), float64.

    Raises:
        ValueError: for a shape, type, label, loss or regularization other than these, and for features that are not
            finite or beyond 1e100.
    """
    _check_shapes(features, labels, mask, start)
    if not 0 < regularization < float("inf"):
        raise ValueError(f"regularization must be a finite number above 0, got {regularization}: try 0.01")
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if features.shape[1] == 0:
        features, labels = features.new_zeros(len(features), 1, features.shape[2]), labels.new_ones(len(features), 1)
        mask = torch.zeros_like(labels, dtype=torch.bool)
    with _one_thread(features):
        _check_values(features, labels, mask)
        return _FitSVM.apply(features, labels, mask, float(regularization), loss, start)


def heldout_hinge(features: Tensor, labels: Tensor, mask: Tensor | None, weights: Tensor, bias: Tensor) -> Tensor:
    """Return each classifier's hinge max(0, 1 - y (w . x + bias)) summed over its own rows: (b,), float64.

    It is differentiable in the features (b, n, d), the weights (b, d) and the bias (b); with `weights` and `bias` from
    `fit_svm`, in what they were fitted to as well. Rows outside the mask (b, n) may hold anything.
    """
    if mask is not None:
        features = features.masked_fill(~mask[..., None], 0.0)
    scores = (weights[:, None] @ features.double().mT)[:, 0] + bias[:, None]
    hinge = (1.0 - labels * scores).clamp(min=0.0)
    return (hinge if mask is None else hinge.masked_fill(~mask, 0.0)).sum(-1)


class _FitSVM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        labels: Tensor,
        mask: Tensor | None,
        regularization: float,
        loss: str,
        start: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        signs = labels.double()
        if mask is not None:
            signs, features = signs.masked_fill(~mask, 0.0), features.masked_fill(~mask[..., None], 0.0)
        mixed = (signs.amax(-1) > 0) & (signs.amin(-1) < 0)
        problem, basis = _pose(features.double(), signs * mixed[:, None], regularization)
        solution = _solve(problem, basis, loss, start, mixed)
        ctx.problem, ctx.basis, ctx.solution, ctx.dtype = problem, basis, solution, features.dtype
        weights = _expand(basis, solution.theta[:, :-1])
        ctx.save_for_backward(weights)
        return weights, torch.where(mixed, solution.theta[:, -1], signs.sum(-1).sign())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights_grad: Tensor, bias_grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient by each row x_i: y_i (force_i u - v_i w), where Hessian u = the gradient by theta, v = its echo."""
        problem, basis, solution = ctx.problem, ctx.basis, ctx.solution
        (weights,) = ctx.saved_tensors
        with _one_thread(weights):
            inside = weights_grad if basis is None else (weights_grad[:, None] @ basis)[:, 0]
            right = torch.cat([inside, bias_grad[:, None]], -1)
            u, echo = solve_implicit(problem, solution.factor, solution.curvature, solution.rigid, right)
            outside = 0.0 if basis is None else (weights_grad - _expand(basis, inside)) / problem.ridge[0]
            signs = problem.rows[..., -1]
            amounts = torch.stack([solution.force * signs, -echo * signs], -1)
            gradient = amounts @ torch.stack([_expand(basis, u[:, :-1]) + outside, weights], 1)
            return gradient.to(ctx.dtype), None, None, None, None, None


def _pose(features: Tensor, signs: Tensor, regularization: float) -> tuple[Problem, Tensor | None]:
    """Return the problem in the span of the examples where that pays, with the span's orthonormal basis (b, d, n) if so."""
    rows, basis = features * signs[..., None], None
    if 4 * rows.shape[1] <= 3 * rows.shape[2]:
        basis, triangle = torch.linalg.qr(rows.mT)
        rows = triangle.mT
    rows = torch.cat([rows, signs[..., None]], -1)
    ridge = rows.new_full(rows.shape[-1:], regularization)
    ridge[-1] = 0.0
    share = 1 / signs.abs().sum(-1, keepdim=True).clamp(min=1.0)
    return Problem(rows, rows.mT.contiguous(), share, ridge, damping=1e-8 * min(regularization, 1.0)), basis


def _solve(
    problem: Problem, basis: Tensor | None, loss: str, start: tuple[Tensor, Tensor] | None, mixed: Tensor
) -> Solution:
    if loss == "hinge":
        solution = minimise_hinge(problem)
    else:
        theta = problem.rows.new_zeros(problem.rows.shape[0], problem.rows.shape[2])
        if start is not None:
            weights, bias = (value.detach().double() for value in start)
            inside = weights if basis is None else (weights[:, None] @ basis)[:, 0]
            theta = torch.where(mixed[:, None], torch.cat([inside, bias[:, None]], -1), theta)
        solution = minimise_smooth(problem, SMOOTH_LOSSES[loss], theta)
    open_ones = int((~solution.converged).sum())
    if open_ones:
        logger.warning("%d of %d SVMs stopped short of their optimum: raise regularization", open_ones, len(mixed))
    return solution


def _expand(basis: Tensor | None, weights: Tensor) -> Tensor:
    return weights.clone() if basis is None else (basis @ weights[..., None])[..., 0]


@contextmanager
def _one_thread(tensor: Tensor) -> Iterator[None]:
    """Keep torch to one thread: for tensors this small a second one only waits, for long if the processor is busy."""
    threads = torch.get_num_threads()
    if tensor.device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_shapes(
    features: Tensor, labels: Tensor, mask: Tensor | None, start: tuple[Tensor, Tensor] | None
) -> None:
    if features.ndim != 3 or features.shape[-1] == 0 or not features.is_floating_point():
        shape = tuple(features.shape)
        raise ValueError(f"features must be floats (problems, rows, columns), got {features.dtype} of shape {shape}")
    wanted = [("labels", labels, features.shape[:2]), ("mask", mask, features.shape[:2])]
    if start is not None:
        wanted += [("start weights", start[0], features.shape[::2]), ("start bias", start[1], features.shape[:1])]
    for name, value, shape in wanted:
        if value is not None and value.shape != shape:
            raise ValueError(f"{name} must have the shape {tuple(shape)} to match features, got {tuple(value.shape)}")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be of bool, True for the rows that count, got {mask.dtype}: try mask.bool()")


def _check_values(features: Tensor, labels: Tensor, mask: Tensor | None) -> None:
    """Raise for a bad label or feature in a row that counts, with a single look at the device if there is none."""
    unknown = labels.abs() != 1
    wild = ~(features.detach().abs().amax(-1).double() <= _LARGEST)
    if mask is not None:
        unknown, wild = unknown & mask, wild & mask
    if not bool((unknown | wild).any()):
        return
    if bool(unknown.any()):
        raise ValueError(f"labels must be -1 or +1, got {labels[unknown][0].item()}: try 2 * labels - 1 for 0 and 1")
    problem, row = (int(index) for index in wild.nonzero()[0])
    raise ValueError(f"features must be finite and within 1e100, got {features[problem, row].tolist()} in row {row} of problem {problem}")
