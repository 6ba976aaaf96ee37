from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from advunlearn.auditors.likelihood_ratio import LikelihoodRatio
from advunlearn.auditors.scores import logit_margin, reference_margin
from advunlearn.options import OptionError
from advunlearn.training.shadows import Shadows


def test_the_decision_is_the_ratio_of_two_fitted_normal_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 40, 1, generator=generator, dtype=torch.float64)
    sides = torch.where(torch.arange(40) < 15, 1.0, -1.0).double().expand(2, 40)
    features = features + 0.7 * sides[..., None]
    train = torch.arange(40) % 3 > 0
    train = torch.stack([train, train & (torch.arange(40) != 4)])
    found = LikelihoodRatio(shrinkage=1e-12).fit(features, sides, train, generator)
    for number in range(2):
        values = features[number, :, 0].numpy()
        fitted = [values[train[number].numpy() & (sides[number].numpy() == side)] for side in (1, -1)]
        expected = [norm.logpdf(values, part.mean(), part.std()) for part in fitted]
        assert found[number].numpy() == pytest.approx(expected[0] - expected[1], abs=1e-9)


def test_shrinkage_draws_both_variances_to_the_common_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 60, 1, generator=generator, dtype=torch.float64)
    sides = torch.where(torch.arange(60) < 30, 1.0, -1.0).double()[None]
    features = features * torch.where(sides > 0, 3.0, 1.0)[..., None]
    train = torch.ones(1, 60, dtype=torch.bool)
    ratio = LikelihoodRatio(shrinkage=1e9).fit(features, sides, train, generator)[0]
    line = np.polyfit(features[0, :, 0].numpy(), ratio.numpy(), 2)  # with one variance the log-ratio is straight
    assert abs(line[0]) < 1e-6 < abs(line[1])


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_evidence_is_two_sided(shift: float) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(100).long()
    members, others = (torch.randn(100, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    audit = LikelihoodRatio().utility(members + shift, others, labels, labels, generator)
    assert audit.accuracy > 0.85
    assert audit.utility > LikelihoodRatio.uninformed / 2


@pytest.mark.parametrize("spread", [0.05, 8.0])
def test_another_spread_alone_is_evidence(spread: float) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(200).long()
    members, others = (torch.randn(200, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    audit = LikelihoodRatio().utility(spread * members, others, labels, labels, generator)
    assert audit.accuracy > 0.75


def test_the_expected_margin_is_that_of_models_that_never_saw_the_example() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 5, 1, 3)).astype(np.float32)
    membership = np.array([[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 1, 0], [0, 1, 1, 0, 0]], dtype=bool)
    labels = torch.tensor([0, 1, 2, 0, 1])
    found = reference_margin(Shadows(logits, membership, logits[:, :0]), labels)
    for example in range(5):
        outside = torch.from_numpy(logits[~membership[:, example], example, 0]).double()
        expected = logit_margin(outside, labels[example].repeat(len(outside))).mean()
        assert found[example].item() == pytest.approx(expected.item(), abs=1e-12)
    louder = np.where(membership[:, :, None, None], 50 * logits, logits)
    assert torch.equal(found, reference_margin(Shadows(louder, membership, logits[:, :0]), labels))
    membership[:, 2] = True
    with pytest.raises(ValueError, match="seen by every reference model"):
        reference_margin(Shadows(logits, membership, logits[:, :0]), labels)


def test_an_odd_number_of_references_is_refused() -> None:
    with pytest.raises(OptionError, match=r"references must be an even whole number, got 3 \(try references=16\)"):
        LikelihoodRatio(references=3)
