"""Gradient ascent, UGradSL and SFR-on against values by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.unlearners.descent import Descent, capped
from advunlearn.unlearners.gradient_ascent import GradientAscent
from advunlearn.unlearners.sfron import Alternation, SFRon, adaptive_weights
from advunlearn.unlearners.ugradsl import Pairs, UGradSL, smoothed_losses
from tests.unlearners.tasks import double, examples, known, mlp, network, same, task, weights

WHOLE = {"epochs": 1, "batch_size": 90, "momentum": 0.0}


def test_gradient_ascent_goes_against_the_descent_by_finite_differences() -> None:
    forget, rate, width = double(examples(30, 1)), 1e-3, 1e-4
    model = known(mlp).double()
    parts = {"retain": double(examples(60, 0)), "forget": forget, "audit": double(examples(45, 2))}
    after = GradientAscent(lr=rate, **WHOLE).unlearn(copy.deepcopy(model), task(**parts)).network
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    step = (nn.utils.parameters_to_vector(after.parameters()).detach() - vector) / rate
    direction = torch.randn(len(vector), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(shift: float) -> float:
        nn.utils.vector_to_parameters(vector + shift * direction, model.parameters())
        return F.cross_entropy(model(forget.inputs), forget.labels).item()

    assert (loss(width) - loss(-width)) / (2 * width) == pytest.approx(
        (step @ direction).item(), rel=1e-2
    )  # float32 losses


def test_only_what_is_below_the_ceiling_is_ascended() -> None:
    logits = torch.tensor([[3.0, 0.0], [-3.0, 0.0]], requires_grad=True)  # losses of 0.05 and 3.05; log(2) is 0.69
    GradientAscent().loss(logits, torch.tensor([0, 0]), torch.tensor([True, True])).backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().min() > 0
    assert torch.equal(logits.grad[1], torch.zeros(2))
    assert capped(torch.tensor([5.0]), 10, 0.5).item() == pytest.approx(math.log(10) / 2)


def test_gradient_ascent_ends_once_the_forget_set_is_at_the_ceiling() -> None:
    labels = examples(30, 1).labels
    wrong = task(forget=replace(examples(30, 1), labels=(labels + 1) % 3))
    model = known(mlp)
    assert same(GradientAscent(epochs=3, lr=0.1).unlearn(copy.deepcopy(model), wrong).network, model)
    assert not same(GradientAscent(epochs=3, lr=0.1).unlearn(copy.deepcopy(model), task()).network, model)


@pytest.mark.parametrize("smoothing", [-0.5, 0.0])
def test_the_loss_of_smoothed_labels_is_that_by_hand(smoothing: float) -> None:
    logits = torch.tensor([[0.8, 0.2]]).log()
    wanted = -(1 - smoothing / 2) * math.log(0.8) - smoothing / 2 * math.log(0.2)
    assert smoothed_losses(logits, torch.tensor([0]), smoothing).item() == pytest.approx(wanted)


def test_ugradsl_weighs_the_means_of_both_kinds() -> None:
    method = UGradSL(retain_weight=0.7, smoothing=-0.4)
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0]], requires_grad=True)
    labels, forgotten = torch.tensor([0, 0, 0]), torch.tensor([False, False, True])
    losses = F.cross_entropy(logits, labels, reduction="none")
    wanted = 0.7 * losses[:2].mean() - 0.3 * smoothed_losses(logits, labels, -0.4)[2]
    found = Pairs(method, network(), task()).loss(None, logits, labels, forgotten)
    assert found.item() == pytest.approx(wanted.item())
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient[2, 0] > 0  # descending it lowers the true class
    beyond = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        Pairs(method, network(), task()).loss(None, beyond, labels[:2], forgotten[1:]), beyond
    )
    assert torch.equal(gradient[1], torch.zeros(2))


@pytest.mark.parametrize(
    ("through", "kinds"), [("forget", [(20, 20), (20, 10)]), ("retain", [(20, 20), (20, 10), (20, 20)])]
)
def test_ugradsl_passes_through_one_set_and_cycles_the_other(through: str, kinds: list[tuple[int, int]]) -> None:
    descent = Pairs(UGradSL(batch_size=20, through=through), network(), task())
    batches = descent.draw()
    assert [(int((b[0] < 60).sum()), int((b[0] >= 60).sum())) for b in batches] == kinds
    passed = torch.cat([batch[0] for batch in batches])
    passed = passed[passed >= 60] if through == "forget" else passed[passed < 60]
    assert passed.sort().values.tolist() == list(range(60, 90) if through == "forget" else range(60))


def test_the_weights_of_the_ascent_are_those_by_hand() -> None:
    assert adaptive_weights(torch.tensor([1.0, 4.0]), 0.5).tolist() == pytest.approx([4 / 3, 2 / 3])
    assert adaptive_weights(torch.tensor([1.0, 4.0]), 0.0).tolist() == [1.0, 1.0]


def test_an_ascent_step_comes_before_every_few_descent_steps() -> None:
    descent = Alternation(SFRon(batch_size=10, every=4, epochs=1), network(), task())
    assert [bool(batch[0][0] >= 60) for batch in descent.draw()] == [True, *[False] * 4, True, *[False] * 2]


def ascent_only(method: SFRon, model: nn.Module) -> Descent:
    """Return a descent of two ascent steps and no others."""
    descent = Alternation(method, model, task())
    descent.draw = lambda: descent.drawn(descent.forgotten())  # type: ignore[method-assign]
    return descent


def test_ascent_steps_leave_weights_that_matter_more_to_the_retain_set_as_they_are() -> None:
    model = network()
    original = weights(model)
    method = SFRon(lr=0.1, epochs=2, batch_size=30, weight_decay=0.1)
    descent = ascent_only(method, model)
    importances = []
    for part in (task().forget, task().retain):
        found = [torch.zeros_like(weight) for weight in model.parameters()]
        for start in range(0, len(part), 30):
            batch = part.subset(torch.arange(start, start + 30))
            loss = F.cross_entropy(model.eval()(batch.inputs), batch.labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            found = [a + b.square() * 30 / len(part) for a, b in zip(found, gradients, strict=True)]
        importances.append(found)
    descent.run()
    moved = 0
    for (name, weight), forget, retain in zip(model.named_parameters(), *importances, strict=True):
        held = (forget + 1e-15) / (retain + 1e-15) < 1
        assert torch.equal(weight[held], original[name][held])
        moved += int((weight != original[name]).sum())
    assert moved > 0


def test_the_ascent_is_clipped() -> None:
    model = network()
    vector = nn.utils.parameters_to_vector(model.parameters()).detach()
    method = SFRon(lr=0.5, epochs=1, batch_size=30, momentum=0.0, weight_decay=0.0, forget_scale=1e6, most_norm=0.01)
    ascent_only(method, model).run()
    moved = (nn.utils.parameters_to_vector(model.parameters()) - vector).norm().item()
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)
