"""MU-Mis: sensitivities and their gradients by finite differences, the other classes, and the bound."""

from __future__ import annotations

import copy

import torch
from torch import nn

from advunlearn.unlearners.mu_mis import MUMis, mean_sensitivity, other_classes, sensitivity
from tests.unlearners.tasks import examples, known, mlp, same, task


def smooth() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def by_differences(model: nn.Module, inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the squared norms of the gradients by the inputs, from central differences."""
    steps = 1e-5 * torch.eye(3).double()
    each = torch.arange(len(inputs))
    slopes = [(model(inputs + step) - model(inputs - step))[each, classes] / 2e-5 for step in steps]
    return torch.stack(slopes).square().sum(0)


def test_the_sensitivity_is_that_of_finite_differences() -> None:
    model, inputs, classes = smooth(), torch.randn(6, 3).double().requires_grad_(), torch.tensor([0, 1, 2, 3, 0, 1])
    found = sensitivity(model(inputs), classes, inputs)
    torch.testing.assert_close(found, by_differences(model, inputs.detach(), classes))
    assert abs(mean_sensitivity(model, inputs.detach(), classes) - found.mean().item()) < 1e-12


def test_its_gradient_by_the_weights_is_that_of_finite_differences() -> None:
    model, inputs, classes = smooth(), torch.randn(4, 3).double().requires_grad_(), torch.tensor([0, 1, 2, 3])
    weight = model[0].weight
    (gradient,) = torch.autograd.grad(sensitivity(model(inputs), classes, inputs).mean(), weight)
    for place in ((0, 0), (3, 2)):
        ends = []
        for step in (-1e-4, 1e-4):
            with torch.no_grad():
                weight[place] += step
            ends.append(sensitivity(model(inputs), classes, inputs).mean().detach())
            with torch.no_grad():
                weight[place] -= step
        torch.testing.assert_close(gradient[place], (ends[1] - ends[0]) / 2e-4, rtol=1e-5, atol=1e-7)


def test_other_classes_are_never_the_own_and_drawn_evenly() -> None:
    labels = torch.arange(4000) % 4
    drawn = other_classes(labels, 4, 0)
    counts = torch.zeros(4, 4).index_put((labels, drawn), torch.tensor(1.0), accumulate=True)
    assert (counts.diag() == 0).all()
    assert ((counts[~torch.eye(4, dtype=torch.bool)] - 1000 / 3).abs() < 4 * (1000 * 2 / 9) ** 0.5).all()
    assert torch.equal(drawn, other_classes(labels, 4, 0))


def test_without_a_bound_above_zero_only_the_label_loses_sensitivity() -> None:
    """With bound 0 the second term is constant, so a step is one against the label's sensitivity alone."""
    model = mlp()
    stepped = MUMis(lr=0.01, epochs=1, batch_size=30, momentum=0, bound=0).unlearn(mlp(), task()).network
    inputs = examples(30, 1).inputs.requires_grad_()  # type: ignore[union-attr]
    sensitivity(model(inputs), examples(30, 1).labels, inputs).mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    for one, other in zip(model.parameters(), stepped.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_it_lowers_the_labels_sensitivity_against_the_other_classs() -> None:
    original, forget = known(mlp), examples(30, 1)
    unlearned = MUMis(lr=1e-4, epochs=3).unlearn(copy.deepcopy(original), task()).network
    others = other_classes(forget.labels, 3, 0)

    def ratio(model: nn.Module) -> float:
        own, other = (mean_sensitivity(model, forget.inputs, each) for each in (forget.labels, others))  # type: ignore[arg-type]
        return own / other

    assert ratio(unlearned) < ratio(original)
    assert not same(unlearned, original)
