"""What holds for every auditor that is fitted to the audit examples, whichever classifier it fits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from advunlearn.auditors import cross_validated
from advunlearn.auditors.cross_validated import CrossValidated
from advunlearn.auditors.logistic import Logistic
from advunlearn.auditors.neural import Neural
from advunlearn.auditors.svm import LOSSES, SVM

AUDITORS = [SVM, Logistic, Neural]
SETTINGS: list[CrossValidated] = [*(SVM(loss=loss) for loss in LOSSES), Logistic(), Neural(hidden=3)]


def scores(n: int, gap: float, seed: int, classes: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    members = torch.randn(n, 2, generator=generator, dtype=torch.float64) + gap
    others = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    offset = 10.0 * labels[:, None]
    return members + offset, others + offset, labels, labels, generator


@pytest.mark.parametrize("cls", AUDITORS)
def test_an_auditor_of_one_distribution_is_uninformed(cls: type[CrossValidated]) -> None:
    audits = [cls().utility(*scores(300, 0.0, seed)) for seed in range(10)]
    assert np.mean([audit.utility.item() for audit in audits]) == pytest.approx(cls.uninformed, abs=0.02)
    assert np.mean([audit.accuracy.item() for audit in audits]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("groups", ["class", "pooled", "auto"])
@pytest.mark.parametrize("cls", AUDITORS)
def test_an_auditor_of_two_distributions_is_not(cls: type[CrossValidated], groups: str) -> None:
    audit = cls(groups=groups).utility(*scores(150, 3.0, 0, classes=3))
    assert audit.accuracy > 0.9
    assert audit.utility > cls.uninformed / 2


@pytest.mark.parametrize("cls", AUDITORS)
def test_a_capped_auditor_never_pays_more_than_hiding(cls: type[CrossValidated]) -> None:
    capped, free = (
        [cls(capped=cap, regularization=0.002).utility(*scores(9, 0.0, seed)).utility.item() for seed in range(5)]  # type: ignore[arg-type]
        for cap in (True, False)
    )
    assert min(free) < 1.05 * cls.uninformed
    assert min(capped) >= cls.uninformed
    assert all(a >= b for a, b in zip(capped, free, strict=True))


@pytest.mark.parametrize("cls", AUDITORS)
def test_where_no_fold_can_be_fitted_the_auditor_is_uninformed_and_pushes_nowhere(cls: type[CrossValidated]) -> None:
    members = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    audit = cls().utility(members, torch.zeros(0, 2), torch.zeros(2).long(), torch.zeros(0).long(), torch.Generator())
    assert audit.utility.item() == cls.uninformed
    assert audit.accuracy.item() == 0.5
    audit.utility.backward()
    assert members.grad is not None
    assert members.grad.abs().max() == 0


@pytest.mark.parametrize("cls", AUDITORS)
@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_handful_of_examples_gives_no_wild_gradients(cls: type[CrossValidated], size: int) -> None:
    for seed in range(5 if cls is Neural else 30):
        generator = torch.Generator().manual_seed(seed)
        members, others = (
            (10 * torch.randn(size, 2, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(2)
        )
        labels = [torch.randint(0, 4, (size,), generator=generator) for _ in range(2)]
        cls().utility(members, others, *labels, generator).utility.backward()
        for side in (members, others):
            assert side.grad is not None
            assert side.grad.isfinite().all()
            assert side.grad.abs().max() < 1e4


@pytest.mark.parametrize("cls", AUDITORS)
def test_columns_without_content_give_the_uninformed_answer(cls: type[CrossValidated]) -> None:
    members, others = (torch.full((30, 2), 2.5).requires_grad_() for _ in range(2))
    labels = torch.zeros(30).long()
    audit = cls().utility(members, others, labels, labels, torch.Generator().manual_seed(0))
    assert audit.utility.item() == pytest.approx(cls.uninformed, abs=1e-9)
    audit.utility.backward()
    assert members.grad is not None
    assert members.grad.isfinite().all()


@pytest.mark.parametrize("cls", AUDITORS)
@pytest.mark.parametrize("groups", ["class", "pooled"])
def test_names_and_places_of_the_classes_do_not_matter(cls: type[CrossValidated], groups: str) -> None:
    members, others, labels, _, _ = scores(60, 1.0, 0, classes=2)
    audits = [
        cls(groups=groups).utility(members, others, names[labels], names[labels], torch.Generator().manual_seed(3))
        for names in (torch.tensor([0, 1]), torch.tensor([2, 7]))
    ]
    assert audits[0].utility.item() == pytest.approx(audits[1].utility.item(), abs=1e-9)


@pytest.mark.parametrize("cls", AUDITORS)
@pytest.mark.parametrize(("factor", "shift"), [(100.0, 0.0), (1.0, 30.0), (0.01, -5.0)])
def test_shift_and_scale_of_a_column_do_not_matter(cls: type[CrossValidated], factor: float, shift: float) -> None:
    members, others, *rest = scores(60, 1.0, 0)
    change = torch.tensor([factor, 1.0], dtype=torch.float64)
    values = []
    for a, b in ((members, others), (members * change + shift, others * change + shift)):
        values.append(cls().utility(a, b, *rest[:2], torch.Generator().manual_seed(3)).utility.item())
    assert values[0] == pytest.approx(values[1], abs=1e-8)


@pytest.mark.parametrize("cls", AUDITORS)
def test_classes_are_pooled_where_one_is_scarce_and_a_remark_says_so(cls: type[CrossValidated]) -> None:
    members, others, labels, _, _ = scores(40, 1.0, 0, classes=2)

    def audit(groups: str, kept: int) -> tuple[float, str]:
        keep = (labels == 0) | (torch.arange(40) < 2 * kept)  # `kept` members and as many non-members of class 1
        both = members[keep], others[keep], labels[keep], labels[keep]
        found = cls(groups=groups).utility(*both, torch.Generator().manual_seed(0))
        return found.utility.item(), found.remark

    assert audit("auto", 5) == audit("class", 5)
    assert audit("auto", 5)[1] == ""
    utility, remark = audit("auto", 4)
    assert utility == audit("pooled", 4)[0]
    assert remark == "one auditor for all classes: some have fewer than 10 examples"


@pytest.mark.parametrize("groups", ["class", "pooled"])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_the_utility_gradient_agrees_with_finite_differences(
    groups: str, options: CrossValidated, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Centre and scale are constants of an audit step; here they must not follow the differences.
    monkeypatch.setattr(cross_validated, "standardise", lambda scores, labels: scores)
    members, others, _, _, _ = scores(30, 0.8, 5)
    labels = torch.arange(30) % 2
    auditor = dataclasses.replace(options, groups=groups, capped=False)

    def utility(both: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return auditor.utility(both[:30], both[30:], labels, labels, generator).utility

    both = torch.cat([members, others]).requires_grad_()
    (exact,) = torch.autograd.grad(utility(both), both)
    for seed in range(3):
        along = torch.randn(both.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            slope = (utility(both + 1e-6 * along) - utility(both - 1e-6 * along)) / 2e-6
        assert slope.item() == pytest.approx((exact * along).sum().item(), rel=1e-6, abs=1e-6)
