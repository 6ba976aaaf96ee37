"""The auditor's support vector machine: exact, differentiable, and calm on degenerate problems."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import Tensor

from advunlearn.auditors import cross_validated
from advunlearn.auditors.svm import LOSSES, SVM, fit_svm

GOLDEN = Path(__file__).parents[1] / "golden"


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
    values = {"hinge": gaps, "squared_hinge": gaps**2, "huber_hinge": torch.where(gaps < 1, gaps**2 / 2, gaps - 0.5)}[
        loss
    ]
    return float(values.mean() + regularization / 2 * weights @ weights)


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


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("n", "d"), [(40, 3), (90, 11), (12, 30)], ids=["n40d3", "n90d11", "n<d"])
def test_the_gradient_agrees_with_finite_differences(loss: str, n: int, d: int) -> None:
    features, labels = problem(2, n, d)
    direction = torch.randn(d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features.requires_grad_()

    def value(moved: Tensor) -> Tensor:
        weights, bias = fit_svm(moved, labels, regularization=0.1, loss=loss)
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
    weights, bias = fit_svm(torch.full((1, 8, 2), 3.0), torch.tensor([[1, -1] * 4]), regularization=0.1, loss=loss)
    assert weights.abs().max() < 1e-10
    assert abs(bias.item()) < 1e-10


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


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck_with_ragged_batches(loss: str) -> None:
    features, labels = problem(3, 14, 3)
    mask = torch.arange(14) < torch.tensor([14, 9, 6])[:, None]
    assert torch.autograd.gradcheck(
        lambda x: fit_svm(x, labels, mask, regularization=0.05, loss=loss),
        features.requires_grad_(),
        eps=1e-7,
        atol=1e-6,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_no_small_step_improves_the_solution(loss: str) -> None:
    features, labels = problem(1, 60, 5)
    weights, bias = fit_svm(features, labels, regularization=0.03, loss=loss)
    best = objective(features[0], labels[0], weights[0], bias[0], 0.03, loss)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-1, 1e-3, 1e-5):
        for _ in range(50):
            move = size * torch.randn(6, generator=generator, dtype=torch.float64)
            moved = objective(features[0], labels[0], weights[0] + move[:5], bias[0] + move[5], 0.03, loss)
            assert moved >= best - 1e-14


def test_the_squared_hinge_is_scikit_learns() -> None:
    features, labels = problem(1, 200, 4)
    regularization = 0.02
    weights, bias = fit_svm(features, labels, regularization=regularization)
    # It minimises |w|^2 / 2 + C sum h^2, with a penalty on the bias that a large constant column makes negligible.
    peer = LinearSVC(C=1 / (200 * regularization), dual=False, tol=1e-12, intercept_scaling=1e4, max_iter=100000)
    peer.fit(features[0].numpy(), labels[0].numpy())
    np.testing.assert_allclose(weights[0], peer.coef_[0], atol=2e-5)
    np.testing.assert_allclose(bias[0], peer.intercept_[0], atol=2e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_gives_what_its_problems_give_one_by_one(loss: str) -> None:
    features, labels = problem(4, 30, 4)
    sizes = torch.tensor([30, 21, 9, 4])
    mask = torch.arange(30) < sizes[:, None]
    padded = features.masked_fill(~mask[..., None], float("nan"))
    weights, bias = fit_svm(padded, labels, mask, regularization=0.1, loss=loss)
    for index, size in enumerate(sizes.tolist()):
        alone = fit_svm(
            features[index : index + 1, :size], labels[index : index + 1, :size], regularization=0.1, loss=loss
        )
        torch.testing.assert_close(weights[index], alone[0][0], rtol=0, atol=1e-10)
        torch.testing.assert_close(bias[index], alone[1][0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_hinge", "huber_hinge"])
def test_a_warm_start_ends_at_the_same_solution(loss: str) -> None:
    features, labels = problem(3, 50, 6)
    cold = fit_svm(features, labels, regularization=0.1, loss=loss)
    warm = fit_svm(features, labels, regularization=0.1, loss=loss, start=(cold[0] + 0.3, cold[1] - 0.2))
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
        weights, bias = fit_svm(features, sides, mask, regularization=0.1, loss=loss)
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
        weights[0], fit_svm(good, labels, regularization=0.1, loss=loss)[0][0], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": torch.zeros(4, 3)}, "features must be floats (problems, rows, columns)"),
        ({"labels": torch.tensor([[0.0, 1.0, 1.0]])}, "labels must be -1 or +1, got 0.0"),
        ({"labels": torch.ones(1, 4)}, "labels must have the shape (1, 3)"),
        ({"mask": torch.ones(1, 3)}, "mask must be of bool"),
        ({"regularization": 0.0}, "regularization must be a finite number above 0"),
        ({"loss": "logistic"}, "loss must be one of squared_hinge, huber_hinge, hinge"),
        ({"features": torch.full((1, 3, 2), float("nan"))}, "features must be finite"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {
        "features": torch.eye(3)[None, :, :2],
        "labels": torch.tensor([[1.0, -1.0, 1.0]]),
        "regularization": 0.1,
    }
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")):
        fit_svm(**{**arguments, **change})  # type: ignore[arg-type]


def scores(n: int, gap: float, seed: int, classes: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    members = torch.randn(n, 2, generator=generator, dtype=torch.float64) + gap
    others = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    offset = 10.0 * labels[:, None]
    return members + offset, others + offset, labels, labels, generator


def test_an_auditor_of_one_distribution_is_uninformed() -> None:
    audits = [SVM().utility(*scores(300, 0.0, seed)) for seed in range(10)]
    assert np.mean([audit.utility.item() for audit in audits]) == pytest.approx(SVM.uninformed, abs=0.02)
    assert np.mean([audit.accuracy.item() for audit in audits]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("groups", ["class", "pooled", "auto"])
def test_an_auditor_of_two_distributions_is_not(groups: str) -> None:
    audit = SVM(groups=groups).utility(*scores(300, 2.0, 0, classes=3))
    assert audit.accuracy > 0.9
    assert audit.utility > -0.5


def test_a_capped_auditor_never_pays_more_than_hiding() -> None:
    capped, free = (
        [SVM(capped=cap, regularization=1e-3).utility(*scores(20, 0.0, seed)).utility.item() for seed in range(20)]
        for cap in (True, False)
    )
    assert min(free) < -1.05
    assert min(capped) >= -1
    assert all(a >= b for a, b in zip(capped, free, strict=True))


def test_where_no_fold_can_be_fitted_the_auditor_is_uninformed_and_pushes_nowhere() -> None:
    members = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    audit = SVM().utility(members, torch.zeros(0, 2), torch.zeros(2).long(), torch.zeros(0).long(), torch.Generator())
    assert audit.utility.item() == SVM.uninformed
    assert audit.accuracy.item() == 0.5
    audit.utility.backward()
    assert members.grad is not None
    assert members.grad.abs().max() == 0


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_a_handful_of_examples_gives_no_wild_gradients(size: int) -> None:
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        members, others = (
            (10 * torch.randn(size, 2, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(2)
        )
        labels = [torch.randint(0, 4, (size,), generator=generator) for _ in range(2)]
        SVM().utility(members, others, *labels, generator).utility.backward()
        for scores_ in (members, others):
            assert scores_.grad is not None
            assert scores_.grad.isfinite().all()
            assert scores_.grad.abs().max() < 1e4


@pytest.mark.parametrize("groups", ["class", "pooled"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_utility_gradient_agrees_with_finite_differences(
    groups: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Centre and scale are constants of an audit step; here they must not follow the differences.
    monkeypatch.setattr(cross_validated, "standardise", lambda scores, labels: scores)
    members, others, labels, _, generator = scores(30, 0.8, 5)
    labels = torch.arange(30) % 2
    state = generator.get_state()
    auditor = SVM(groups=groups, loss=loss, capped=False)

    def utility(both: Tensor) -> Tensor:
        generator.set_state(state)
        return auditor.utility(both[:30], both[30:], labels, labels, generator).utility

    both = torch.cat([members, others]).requires_grad_()
    (exact,) = torch.autograd.grad(utility(both), both)
    for seed in range(5):
        along = torch.randn(both.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            slope = (utility(both + 1e-6 * along) - utility(both - 1e-6 * along)) / 2e-6
        assert slope.item() == pytest.approx((exact * along).sum().item(), rel=1e-6, abs=1e-6)
