"""Linear classifiers: exact, differentiable, and calm on degenerate problems, under every loss."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

from advunlearn.auditors.solvers.linear import KINKS, fit_linear
from advunlearn.auditors.solvers.problem import Problem

LOSSES = tuple(KINKS)


def problem(b: int, n: int, d: int, seed: int = 0, shift: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0).double().expand(b, n).clone()
    features = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    return features + shift * labels[..., None], labels


def objective(
    features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, regularization: float, loss: str
) -> float:
    margins = labels * (features @ weights + bias)
    gaps = (1 - margins).clamp(min=0)
    values = {
        "hinge": gaps,
        "squared_hinge": gaps**2,
        "huber_hinge": torch.where(gaps < 1, gaps**2 / 2, gaps - 0.5),
        "logistic": -F.logsigmoid(margins),
    }[loss]
    return float(values.mean() + regularization / 2 * weights @ weights)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "d"), [(40, 3), (90, 11), (12, 30)], ids=["n40d3", "n90d11", "n<d"])
def test_the_gradient_agrees_with_finite_differences(loss: str, n: int, d: int) -> None:
    features, labels = problem(2, n, d)
    direction = torch.randn(d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features.requires_grad_()

    def value(moved: Tensor) -> Tensor:
        weights, bias = fit_linear(moved, labels, regularization=0.1, loss=loss)
        return (weights @ direction + 0.5 * bias).sum()

    (exact,) = torch.autograd.grad(value(features), features)
    for seed in range(5):
        along = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-6
        with torch.no_grad():
            slope = (value(features + step * along) - value(features - step * along)) / (2 * step)
        assert slope.item() == pytest.approx((exact * along).sum().item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_balanced_constant_scores_have_the_bias_in_the_middle(loss: str) -> None:
    weights, bias = fit_linear(torch.full((1, 8, 2), 3.0), torch.tensor([[1, -1] * 4]), regularization=0.1, loss=loss)
    assert weights.abs().max() < 1e-10
    assert abs(bias.item()) < 1e-10


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck_with_ragged_batches(loss: str) -> None:
    features, labels = problem(3, 14, 3)
    mask = torch.arange(14) < torch.tensor([14, 9, 6])[:, None]
    assert torch.autograd.gradcheck(
        lambda x: fit_linear(x, labels, mask, regularization=0.05, loss=loss),
        features.requires_grad_(),
        eps=1e-7,
        atol=1e-6,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_no_small_step_improves_the_solution(loss: str) -> None:
    features, labels = problem(1, 60, 5)
    weights, bias = fit_linear(features, labels, regularization=0.03, loss=loss)
    best = objective(features[0], labels[0], weights[0], bias[0], 0.03, loss)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-3, 1e-5):
        for _ in range(50):
            move = size * torch.randn(6, generator=generator, dtype=torch.float64)
            moved = objective(features[0], labels[0], weights[0] + move[:5], bias[0] + move[5], 0.03, loss)
            assert moved >= best - 1e-14


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_gives_what_its_problems_give_one_by_one(loss: str) -> None:
    features, labels = problem(4, 30, 4)
    sizes = torch.tensor([30, 21, 9, 4])
    mask = torch.arange(30) < sizes[:, None]
    padded = features.masked_fill(~mask[..., None], float("nan"))
    weights, bias = fit_linear(padded, labels, mask, regularization=0.1, loss=loss)
    for index, size in enumerate(sizes.tolist()):
        alone = fit_linear(
            features[index : index + 1, :size], labels[index : index + 1, :size], regularization=0.1, loss=loss
        )
        torch.testing.assert_close(weights[index], alone[0][0], rtol=0, atol=1e-10)
        torch.testing.assert_close(bias[index], alone[1][0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_hinge", "huber_hinge", "logistic"])
def test_a_warm_start_ends_at_the_same_solution(loss: str) -> None:
    features, labels = problem(3, 50, 6)
    cold = fit_linear(features, labels, regularization=0.1, loss=loss)
    warm = fit_linear(features, labels, regularization=0.1, loss=loss, start=(cold[0] + 0.3, cold[1] - 0.2))
    torch.testing.assert_close(warm, cold, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_problems_have_their_answer_and_touch_no_other(loss: str, caplog: pytest.LogCaptureFixture) -> None:
    good, labels = problem(1, 20, 3)
    one_label = torch.ones(1, 20, dtype=torch.float64)
    constant = torch.full_like(good, 2.5)
    twice = good.clone()
    twice[..., 1] = twice[..., 0]
    separable = good + 50 * labels[..., None]
    features = torch.cat([good, good, good, constant, twice, separable]).requires_grad_()
    sides = torch.cat([labels, one_label, labels, labels, labels, labels])
    mask = torch.ones(6, 20, dtype=torch.bool)
    mask[2] = False
    with caplog.at_level(logging.WARNING):
        weights, bias = fit_linear(features, sides, mask, regularization=0.1, loss=loss)
    assert not caplog.records
    (weights.sum() + bias.sum()).backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(weights).all()
    assert torch.isfinite(bias).all()
    assert weights[1].tolist() == [0, 0, 0]
    assert bias[1] == 1
    assert weights[2].tolist() == [0, 0, 0]
    assert bias[2] == 0
    assert features.grad[1:3].abs().max() == 0
    torch.testing.assert_close(weights[3], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(weights[4, 0], weights[4, 1], rtol=0, atol=1e-8)
    torch.testing.assert_close(
        weights[0], fit_linear(good, labels, regularization=0.1, loss=loss)[0][0], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": torch.zeros(4, 3)}, "features must be floats (problems, rows, columns)"),
        ({"labels": torch.tensor([[0.0, 1.0, 1.0]])}, "labels must be -1 or +1, got 0.0"),
        ({"labels": torch.ones(1, 4)}, "labels must have the shape (1, 3)"),
        ({"mask": torch.ones(1, 3)}, "mask must be of bool"),
        ({"regularization": 0.0}, "regularization must be a finite number above 0"),
        ({"loss": "hing"}, "loss must be one of squared_hinge, huber_hinge, hinge, logistic, got 'hing'"),
        ({"features": torch.full((1, 3, 2), float("nan"))}, "features must be finite"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {
        "features": torch.eye(3)[None, :, :2],
        "labels": torch.tensor([[1.0, -1.0, 1.0]]),
        "regularization": 0.1,
        "loss": "logistic",
    }
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")):
        fit_linear(**{**arguments, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", LOSSES)
def test_degenerate_problems_do_not_slow_the_batch(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, labels = problem(1, 20, 3)
    whole = torch.ones(1, 20, dtype=torch.bool)
    degenerate = [
        (good, torch.ones_like(labels), whole),  # one label alone
        (good, labels, ~whole),  # no rows
        (good, labels, torch.arange(20)[None] < 1),  # one row
        (torch.full_like(good, 2.5), labels, whole),  # constant columns
        (good[..., [0, 0, 2]], labels, whole),  # collinear columns
        (good[:, :1].expand(-1, 20, -1), labels, whole),  # contradictory rows
    ]
    steps: list[int] = []
    factor = Problem.factor

    def counted(self: Problem, curvature: Tensor) -> Tensor:
        steps[-1] += 1
        return factor(self, curvature)

    monkeypatch.setattr(Problem, "factor", counted)
    for problems in ([(good, labels, whole)], [(good, labels, whole), *degenerate]):
        steps.append(0)
        features, sides, mask = (torch.cat(parts) for parts in zip(*problems, strict=True))
        fit_linear(features, sides, mask, regularization=0.1, loss=loss)
    assert steps[1] == steps[0] > 0


@pytest.mark.parametrize(("n", "d"), [(200, 4), (12, 30)], ids=["n200d4", "n<d"])
def test_logistic_regression_is_scikit_learns(n: int, d: int) -> None:
    features, labels = problem(1, n, d)
    regularization = 0.02
    weights, bias = fit_linear(features, labels, regularization=regularization, loss="logistic")
    # It minimises |w|^2 / 2 + C sum loss, with a free bias as here.
    peer = LogisticRegression(C=1 / (n * regularization), tol=1e-10, solver="newton-cholesky")
    peer.fit(features[0].numpy(), labels[0].numpy())
    np.testing.assert_allclose(weights[0], peer.coef_[0], rtol=0, atol=1e-7)
    np.testing.assert_allclose(bias[0], peer.intercept_[0], rtol=0, atol=1e-7)


def test_constant_columns_leave_logistic_regression_the_log_odds() -> None:
    labels = torch.tensor([[1.0] * 15 + [-1.0] * 5])
    weights, bias = fit_linear(torch.full((1, 20, 2), 3.0), labels, regularization=0.1, loss="logistic")
    # The free bias takes everything: w = 0 and the log of 15 to 5.
    torch.testing.assert_close(weights, torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    assert bias.item() == pytest.approx(np.log(3), abs=1e-8)


@pytest.mark.parametrize("regularization", [1e-1, 1e-4, 1e-8])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_newton_reaches_a_separable_optimum_of_logistic_regression(regularization: float, scale: float) -> None:
    features, labels = problem(1, 30, 2, shift=6.0)
    features = (scale * features).requires_grad_()
    # The same optimum in other units: w scales with 1 / scale, and the penalty with scale^2.
    weights, bias = fit_linear(features, labels, regularization=regularization * scale**2, loss="logistic")
    margins = labels * ((features @ weights[..., None])[..., 0] + bias[:, None])
    force = (labels * torch.sigmoid(-margins) / 30).detach()
    pull = (force[..., None] * features.detach()).sum(1)
    torch.testing.assert_close(pull, regularization * scale**2 * weights.detach(), rtol=1e-6, atol=0)
    assert abs(force.sum()) <= 1e-6 * force.abs().sum()
    margins.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
