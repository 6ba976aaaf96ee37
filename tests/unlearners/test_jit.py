"""JiT: slopes of a linear model in closed form, gradients by finite differences, resumption."""

from __future__ import annotations

import torch
from torch import nn

from advunlearn.unlearners.jit import JiT, slopes
from tests.unlearners.tasks import examples, known, mlp, task


def test_the_slopes_of_a_linear_model_are_those_of_its_weights() -> None:
    torch.manual_seed(0)
    model, inputs, noise = nn.Linear(4, 3).double(), torch.randn(5, 4).double(), torch.randn(2, 5, 4).double()
    expected = (noise @ model.weight.T).norm(dim=2) / noise.norm(dim=2)
    torch.testing.assert_close(slopes(model, inputs, noise), expected)


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, noise = torch.randn(3, 3).double(), torch.randn(4, 3, 3).double()
    weight = model[0].weight
    (gradient,) = torch.autograd.grad(slopes(model, inputs, noise).mean(), weight)
    for place in ((0, 0), (2, 1), (3, 2)):
        ends = []
        for step in (-1e-5, 1e-5):
            with torch.no_grad():
                weight[place] += step
                ends.append(slopes(model, inputs, noise).mean())
                weight[place] -= step
        torch.testing.assert_close(gradient[place], (ends[1] - ends[0]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_it_smooths_the_outputs_around_forget_examples() -> None:
    original, forget = known(mlp), examples(30, 1)
    noise = 0.1 * torch.randn(10, 30, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    before = slopes(original, forget.inputs, noise).mean()  # type: ignore[arg-type]
    after = slopes(JiT(lr=0.1, epochs=10).unlearn(original, task()).network, forget.inputs, noise).mean()  # type: ignore[arg-type]
    assert after < 0.9 * before
