from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from advunlearn.auditors.likelihood_ratio import LikelihoodRatio
from advunlearn.auditors.scores import logit_margin, reference_evidence
from advunlearn.options import OptionError
from advunlearn.shadows.outputs import ShadowOutputs


def references(
    models: int, n: int, gain: float, seed: int, scale: float = 1.0
) -> tuple[ShadowOutputs, torch.Tensor, np.ndarray]:
    """Return what models say whose margins are normal about a centre of each example, and beyond it where IN."""
    rng = np.random.default_rng(seed)
    membership = np.stack([rng.permutation(n) < n // 2 for _ in range(models // 2)])
    membership = np.concatenate([np.stack([half, ~half]) for half in membership])
    without = rng.normal(size=n)
    margins = without + gain * membership + scale * rng.normal(size=(models, n))
    logits = np.stack([margins, np.zeros_like(margins)], -1)[:, :, None].astype(np.float32)
    return ShadowOutputs(logits, membership, logits[:, :0]), torch.zeros(n).long(), without


def test_with_many_models_evidence_is_the_ratio_of_normal_densities() -> None:
    said, labels, without = references(4000, 40, gain=1.5, seed=0)
    evidence = reference_evidence([said], [labels])
    margins = np.linspace(-3, 3, 40)
    expected = norm.logpdf(margins, without + 1.5, 1.0) - norm.logpdf(margins, without, 1.0)
    assert evidence.ratio(torch.from_numpy(margins)).numpy() == pytest.approx(expected, abs=0.3)
    said, labels, without = references(64, 2000, gain=1.5, seed=1, scale=1e-3)  # an exact model of every example
    evidence = reference_evidence([said], [labels])
    assert evidence.centre.numpy() == pytest.approx(without + 0.75, abs=2e-3)


def test_few_models_learn_the_distance_from_one_another() -> None:
    said, labels, _ = references(4, 3000, gain=1.0, seed=2)
    evidence = reference_evidence([said], [labels])
    # Two models a side put a noise of deviation 1 on each example's own distance; all of that is noise here.
    assert evidence.slope.std() / evidence.slope.mean() < 0.5
    assert evidence.slope.mean().item() == pytest.approx(1.0, abs=0.15)
    assert bool((evidence.slope > 0).all())


def test_no_distance_is_below_a_twentieth_of_the_mean_one() -> None:
    n, noise = 40, 1e-3
    gain = np.where(np.arange(n) == 20, -1.0, 1.0)  # one example whose IN models are less sure than its OUT models
    without = np.linspace(-2, 2, n)
    # Two models IN and two OUT, the same residuals for every example: so all variances are equal, and slopes are to one
    # another as distances are.
    margins = np.stack([without + gain + noise, without + gain - noise, without + noise, without - noise])
    membership = np.repeat([[True], [True], [False], [False]], n, axis=1)
    logits = np.stack([margins, np.zeros_like(margins)], -1)[:, :, None].astype(np.float32)
    said = ShadowOutputs(logits, membership, logits[:, :0])
    slope = reference_evidence([said], [torch.zeros(n).long()]).slope.numpy()
    assert slope[20] / slope[0] == pytest.approx(0.05 * np.mean(gain), rel=0.01)
    assert slope[0] == pytest.approx(slope[39], rel=0.01)


def test_parts_are_judged_together_and_an_unseen_example_by_the_others() -> None:
    said, labels, _ = references(16, 200, gain=2.0, seed=3)
    halves = [
        ShadowOutputs(said.logits[:, part], said.membership[:, part], said.population)
        for part in (slice(90), slice(90, 200))
    ]
    whole = reference_evidence([said], [labels])
    parts = reference_evidence(halves, [labels[:90], labels[90:]])
    assert torch.equal(whole.centre, parts.centre)
    assert torch.equal(whole.slope, parts.slope)
    unseen = said.membership.copy()
    unseen[:, 0] = False
    evidence = reference_evidence([ShadowOutputs(said.logits, unseen, said.population)], [labels])
    margins = torch.stack([logit_margin(torch.from_numpy(each[:, 0]).double(), labels) for each in said.logits])
    assert evidence.slope[0] > 0
    assert evidence.centre[0] > margins[:, 0].mean()  # half the expected distance above the mean of OUT
    unseen[:, 1] = True
    with pytest.raises(ValueError, match="every reference model was trained on some example"):
        reference_evidence([ShadowOutputs(said.logits, unseen, said.population)], [labels])


@pytest.mark.parametrize("shift", [0.0, 0.8, -0.8])
def test_the_utility_is_half_the_distance_and_by_itself_never_negative(shift: float) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(3000) % 3
    members, others = (torch.randn(3000, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    members = (members + shift + 10 * labels[:, None]).requires_grad_()
    others = others + 10 * labels[:, None]  # what a class has in common is no evidence
    expected = shift / 2 / np.sqrt(1 + shift**2 / 4)  # at deviation 1 over both
    one, both = (
        LikelihoodRatio(two_sided=sided).utility(members, others, labels, labels, generator) for sided in (False, True)
    )
    assert one.utility.item() == pytest.approx(max(expected, LikelihoodRatio.uninformed), abs=0.03)
    assert both.utility.item() == pytest.approx(abs(expected), abs=0.03)
    assert one.accuracy.item() == pytest.approx(norm.cdf(shift / 2), abs=0.02)
    if shift:
        (gradient,) = torch.autograd.grad(both.utility, members)
        assert bool((gradient.sign() == np.sign(shift)).all())
    if shift < 0:
        (gradient,) = torch.autograd.grad(one.utility, members)
        assert not gradient.any()


def test_constant_scores_say_nothing() -> None:
    labels = torch.zeros(20).long()
    constant = torch.full((20, 1), 0.1, dtype=torch.float64, requires_grad=True)
    audit = LikelihoodRatio(two_sided=True).utility(constant, constant.detach(), labels, labels, torch.Generator())
    assert audit.utility.item() == pytest.approx(LikelihoodRatio.uninformed, abs=1e-12)
    assert bool(torch.autograd.grad(audit.utility, constant)[0].isfinite().all())


@pytest.mark.parametrize(("count", "words"), [(5, "must be an even whole number, got 5"), (2, "must be at least 4")])
def test_a_number_of_references_that_cannot_be_is_refused(count: int, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        LikelihoodRatio(references=count)
