"""The auditor's support vector machine: exact, differentiable, and calm on degenerate problems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from advunlearn.auditors.svm import fit_svm

GOLDEN = Path(__file__).parents[1] / "golden"


def problem(b: int, n: int, d: int, seed: int = 0, shift: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0).double().expand(b, n).clone()
    features = torch.randn(b, n, d, generator=generator, dtype=torch.float64)
    return features + shift * labels[..., None], labels


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_solution_and_both_gradients_equal_the_golden_ones(loss: str) -> None:
    golden = np.load(GOLDEN / f"svm_{loss}.npz")
    train, test = (torch.tensor(golden[name])[None].requires_grad_() for name in ("X_train", "X_test"))
    labels = torch.tensor(golden["y_train"])[None]
    weights, bias = fit_svm(train, labels, regularization=float(golden["lam"]), loss=loss)
    np.testing.assert_allclose(weights[0].detach(), golden["w"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(bias[0].detach(), golden["b"], rtol=0, atol=1e-8)
    total = (1 - torch.tensor(golden["y_test"]) * (test[0] @ weights[0] + bias[0])).clamp(min=0).sum()
    assert total.item() == pytest.approx(float(golden["heldout_hinge_sum"]), abs=1e-6)
    total.backward()
    assert train.grad is not None
    assert test.grad is not None
    np.testing.assert_allclose(train.grad[0], golden["dL_dXtrain_formula"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(train.grad[0], golden["dL_dXtrain"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(test.grad[0], golden["dL_dXtest"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_the_hinge_gradient_holds_where_an_interval_of_biases_is_optimal(seed: int) -> None:
    features, labels = problem(4, 20, 2, seed)  # few columns and as many of each label: about a third of them are such
    features.requires_grad_()

    def value(moved: Tensor) -> Tensor:
        weights, bias = fit_svm(moved, labels, regularization=0.1, loss="hinge")
        return (weights.sum(-1) + bias).sum()

    (exact,) = torch.autograd.grad(value(features), features)
    along = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        slope = (value(features + 1e-7 * along) - value(features - 1e-7 * along)) / 2e-7
    assert slope.item() == pytest.approx((exact * along).sum().item(), rel=1e-5, abs=1e-6)


def test_the_squared_hinge_is_scikit_learns() -> None:
    features, labels = problem(1, 200, 4)
    regularization = 0.02
    weights, bias = fit_svm(features, labels, regularization=regularization)
    # It minimises |w|^2 / 2 + C sum h^2, with a penalty on the bias that a large constant column makes negligible.
    peer = LinearSVC(C=1 / (200 * regularization), dual=False, tol=1e-12, intercept_scaling=1e4, max_iter=100000)
    peer.fit(features[0].numpy(), labels[0].numpy())
    np.testing.assert_allclose(weights[0], peer.coef_[0], atol=2e-5)
    np.testing.assert_allclose(bias[0], peer.intercept_[0], atol=2e-5)


def test_a_loss_that_is_no_hinge_is_refused() -> None:
    features, labels = problem(1, 6, 2)
    with pytest.raises(ValueError, match="loss must be one of squared_hinge, huber_hinge, hinge, got 'logistic'"):
        fit_svm(features, labels, regularization=0.1, loss="logistic")
