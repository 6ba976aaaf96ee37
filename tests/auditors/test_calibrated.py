from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from advunlearn.auditors.calibrated import Calibrated, expected, residuals, stratified_normal
from advunlearn.options import OptionError, UserError
from advunlearn.shadows.outputs import ShadowOutputs


def outputs(margins: np.ndarray, membership: np.ndarray) -> ShadowOutputs:
    """Return what models of two classes say whose margin of class 0 is given, (k, n)."""
    logits = np.stack([margins, np.zeros_like(margins)], -1)[:, :, None].astype(np.float32)
    return ShadowOutputs(logits, membership, logits[:, :0])


def utility(auditor: Calibrated, forget: torch.Tensor, audit: torch.Tensor) -> torch.Tensor:
    """Return the utility for distances and levels, (n, 1 + f) and (m, 1 + f)."""
    labels = [torch.zeros(len(each)).long() for each in (forget, audit)]
    return auditor.utility(forget, audit, *labels, torch.Generator()).utility


FORGET = torch.tensor([[-3.0, 1.0], [0.2, -1.0], [0.7, 0.5], [2.0, 0.4]]).double()  # distances and levels
AUDIT = torch.tensor([[0.0, 2.0], [-0.5, -0.5], [1.5, 1.0]]).double()


def test_the_utility_is_that_of_the_best_stakes() -> None:
    auditor = Calibrated(stake=0.8, cost=2.0)
    stakes = torch.linspace(-0.8, 0.8, 160_001).double()[:, None]
    best = []
    for d, level in (FORGET.T, AUDIT.T):
        each = (stakes * d - 2.0 * stakes.square() / 2).max(0).values.mean()
        whole = [(stakes * (of * d).mean() - stakes.square() / 2).max() for of in (torch.ones_like(d), level)]
        best.append(each + whole[0] + whole[1])
    assert utility(auditor, FORGET, AUDIT).item() == pytest.approx((best[0] + best[1]).item() / 2)


def test_the_gradient_is_that_with_the_best_stakes_held_constant() -> None:
    scores = FORGET.clone().requires_grad_()
    utility(Calibrated(stake=0.8, cost=2.0), scores, torch.zeros(3, 2).double()).backward()
    assert scores.grad is not None
    d, level = FORGET.numpy().T
    stakes = np.clip(d / 2.0, -0.8, 0.8) + np.clip(d.mean(), -0.8, 0.8) + np.clip((level * d).mean(), -0.8, 0.8) * level
    assert scores.grad[:, 0].numpy() == pytest.approx(stakes / 4 / 2)


def test_a_small_distance_that_all_examples_share_counts_more_than_one_of_both_signs() -> None:
    auditor, audit = Calibrated(), torch.zeros(2, 2).double()
    level = (torch.arange(8).double() - 3.5) / np.sqrt(5.25)  # mean 0, deviation 1
    signs = torch.tensor([1.0, -1, -1, 1, 1, -1, -1, 1]).double()  # mean 0, and no slope over the levels
    same, grows, alternates = (
        utility(auditor, torch.stack([0.05 * each, level], 1), audit).item()
        for each in (torch.ones(8).double(), level, signs)
    )
    assert alternates == pytest.approx(0.05**2 / (2 * 3.0) / 2)
    assert same == pytest.approx(alternates + 0.05**2 / 2 / 2)
    assert grows == pytest.approx(alternates + 0.05**2 / 2 / 2)


def test_nobody_can_tell_a_model_on_its_targets() -> None:
    found = Calibrated().utility(*torch.zeros(2, 5, 2).double(), *torch.zeros(2, 5).long(), torch.Generator())
    assert found.utility.item() == Calibrated.uninformed
    assert found.accuracy.item() == 0.5
    memorised = Calibrated().utility(
        torch.ones(5, 2).double(), torch.zeros(5, 2).double(), *torch.zeros(2, 5).long(), torch.Generator()
    )
    assert memorised.accuracy.item() == 0.75  # every forget example above its target; audit examples on it


def test_mean_and_variance_are_those_of_the_models_that_never_saw_the_example() -> None:
    rng = np.random.default_rng(0)
    k, n = 4000, 6
    inside = rng.random((k, n)) < 0.4
    mean, deviation = np.arange(n) - 2.0, np.linspace(0.5, 2, n)
    margins = mean + deviation * rng.normal(size=(k, n)) + 10.0 * inside
    found = expected(torch.from_numpy(margins), torch.from_numpy(~inside))
    assert found[0].numpy() == pytest.approx(mean, abs=4 * 2 / np.sqrt(0.6 * k))
    assert found[1].sqrt().numpy() == pytest.approx(deviation, rel=0.06)


def test_targets_of_forget_examples_have_the_spread_of_retraining_and_audit_examples_stay() -> None:
    rng = np.random.default_rng(1)
    k, forgotten, audited = 200, 3000, 50
    forget = 1.0 + 2.0 * rng.normal(size=(k, forgotten))
    centre = rng.normal(size=audited)
    audit = centre + 2.0 * rng.normal(size=(k, audited))
    # The original's margins are half as steep, and above the references by one: its own residuals must stay.
    own = rng.normal(size=audited)
    labels = [torch.zeros(forgotten).long(), torch.zeros(audited).long()]
    parts = [outputs(each, np.zeros(each.shape, bool)) for each in (forget, audit)]
    original = torch.cat([torch.zeros(forgotten), torch.from_numpy(audit.mean(0) / 2 + 1 + own).float()]).double()
    evidence = Calibrated().evidence(parts, labels, lambda: original, torch.Generator().manual_seed(0))
    drawn = evidence.target[:forgotten].numpy()
    assert drawn.mean() == pytest.approx(1.0, abs=0.02)  # of independent draws, 0.037 is one standard error
    assert drawn.std() == pytest.approx(2.0, rel=0.05)
    moved = evidence.target[forgotten:].numpy() - audit.mean(0)
    assert moved.mean() == pytest.approx(0.0, abs=1e-2)
    assert np.corrcoef(moved, own)[0, 1] > 0.95
    at_target = evidence.subset(torch.arange(5)).scores(evidence.target[:5])
    assert at_target.shape == (5, 3)
    assert float(at_target[:, 0].abs().max()) == 0.0
    levels = evidence.levels.numpy()
    assert levels[forgotten:, 0] == pytest.approx((audit.mean(0) - audit.mean()) / audit.mean(0).std(), abs=1e-5)
    assert np.corrcoef(levels[:forgotten, 1], drawn - forget.mean(0))[0, 1] > 0.99
    for side in (levels[:forgotten], levels[forgotten:]):
        assert side.mean(0) == pytest.approx(0.0, abs=1e-9)
        assert side.std(0) == pytest.approx(1.0)


def test_draws_are_normal_each_by_itself_and_all_together() -> None:
    count, times = 8, 4000
    draws = np.stack([stratified_normal(count, torch.Generator().manual_seed(seed)).numpy() for seed in range(times)])
    assert np.sort(np.floor(norm.cdf(draws) * count), 1).tolist() == [list(range(count))] * times
    assert kstest(draws[:, 0], "norm").pvalue > 0.01
    assert abs(np.corrcoef(draws[:, 0], np.arange(times))[0, 1]) < 4 / np.sqrt(times)
    single = [stratified_normal(1, torch.Generator().manual_seed(seed)).item() for seed in range(times)]
    assert kstest(single, "norm").pvalue > 0.01


def test_a_margin_is_measured_in_deviations_from_its_target() -> None:
    margins = np.array([[1.0, 5.0], [3.0, 5.0]])  # variances 2 and 0, shrunk towards 1 by six degrees of freedom
    found = Calibrated().evidence(
        [outputs(margins[:, :1], np.zeros((2, 1), bool)), outputs(margins[:, 1:], np.zeros((2, 1), bool))],
        [torch.zeros(1).long()] * 2,
        lambda: torch.tensor([9.0, 7.0]).double(),
        torch.Generator().manual_seed(0),
    )
    draw = stratified_normal(1, torch.Generator().manual_seed(0)).item()
    deviations = np.sqrt([(2 + 6) / 7, 6 / 7])
    assert found.deviation.numpy() == pytest.approx(deviations)
    # A line through the one audit example leaves no residual, so its target is the references' mean.
    assert found.target.numpy() == pytest.approx([2 + deviations[0] * draw, 5.0])
    assert found.scores(torch.tensor([2.0, 6.0]).double())[1].tolist() == pytest.approx([1 / deviations[1], 0.0, 0.0])


def test_residuals_are_orthogonal_to_the_line() -> None:
    rng = np.random.default_rng(2)
    margins, mean, weights = (
        torch.from_numpy(each) for each in (rng.normal(size=9), rng.normal(size=9), rng.random(9))
    )
    left = residuals(margins, mean, weights)
    assert (weights * left).sum().item() == pytest.approx(0, abs=1e-12)
    assert (weights * left * mean).sum().item() == pytest.approx(0, abs=1e-12)
    assert residuals(3 - 2 * mean, mean, weights).abs().max().item() == pytest.approx(0, abs=1e-12)


def test_too_few_models_without_an_example_are_an_error_with_a_fix() -> None:
    inside = np.array([[True, False], [True, False], [False, False]])
    with pytest.raises(UserError, match=r"use more of them \(auditor.references\)"):
        expected(torch.zeros(3, 2).double(), torch.from_numpy(~inside))


@pytest.mark.parametrize("wrong", [{"references": 3}, {"references": 5}, {"stake": 0}, {"cost": 0}])
def test_bad_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Calibrated(**wrong)
