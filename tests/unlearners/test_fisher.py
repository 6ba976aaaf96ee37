"""Fisher forgetting: the diagonal of the information in closed form, and the variance of the noise by its draws."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.unlearners.curvature import mean_squared_gradients, sample
from advunlearn.unlearners.fisher import Fisher, fisher_losses
from advunlearn.unlearners.ssd import SSD
from tests.unlearners.tasks import CPU, examples, network, same, task


def linear(inputs: int, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))


def closed_form(model: nn.Module, part: Examples) -> torch.Tensor:
    """Return mean of x_j^2 p_c (1 - p_c), which is the information of weight (c, j) of a linear classifier."""
    p = model(part.inputs).softmax(1)
    return (p * (1 - p)).T @ part.inputs.flatten(1).square() / len(part)


def test_the_information_of_a_linear_model_is_its_closed_form() -> None:
    model, part = linear(64, 3), examples(40, 0)
    found = mean_squared_gradients(model, part, fisher_losses)
    torch.testing.assert_close(found["1.weight"].float(), closed_form(model, part))
    assert found.keys() == {"1.weight", "1.bias"}


def test_the_information_is_that_of_single_examples_so_the_number_at_once_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = mean_squared_gradients(network(), examples(20, 0), fisher_losses)
    monkeypatch.setattr("advunlearn.unlearners.curvature.NUMBERS", 7 * sum(w.numel() for w in network().parameters()))
    for name, each in mean_squared_gradients(network(), examples(20, 0), fisher_losses).items():
        torch.testing.assert_close(each, whole[name])


@pytest.mark.parametrize("largest", [1e9, 20.0])
def test_the_noise_has_the_variance_of_the_formula(largest: float) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 1, 80, 80, generator=generator)
    retain = Examples(inputs * torch.linspace(0.1, 3, 6400).view(1, 1, 80, 80), torch.arange(8) % 3)
    model = linear(6400, 3)
    variance = 0.01 * (1 / closed_form(model, retain)).clamp(max=largest)
    assert (variance < 0.01 * largest).any()
    before = model[1].weight.detach().clone()  # type: ignore[index, union-attr, operator]
    Fisher(alpha=0.01, largest=largest).unlearn(model, task(retain=retain))
    squares = (model[1].weight - before).square() / variance  # type: ignore[index]
    # 19,200 squares of standard normal draws, whose mean deviates by sqrt(2 / 19200) = 0.0102; five deviations.
    assert abs(squares.mean().item() - 1) < 5 * math.sqrt(2 / squares.numel())


def test_strength_zero_changes_nothing_and_the_seed_decides_the_noise() -> None:
    original = network().eval()
    none, first, again = (
        Fisher(alpha=alpha).unlearn(copy.deepcopy(original), task()).network for alpha in (0.0, 1e-3, 1e-3)
    )
    assert same(none, original)
    assert same(first, again)
    assert not same(first, original)


class Recurrent(nn.Module):
    """Read images line by line, which torch.func.vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        lines, _ = self.lstm(images[:, 0])
        return self.head(lines[:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", [Fisher(), SSD()])
def test_a_network_without_gradients_of_single_examples_is_refused_in_one_line(method: Fisher | SSD) -> None:
    with pytest.raises(UserError, match=r"^unlearners fisher and ssd need gradients of single examples, .*lstm.*\)$"):
        method.run(Recurrent(), task())


def test_a_sample_is_drawn_without_repetition_and_keeps_the_order() -> None:
    part = Examples(torch.arange(50.0)[:, None], torch.arange(50))
    drawn = sample(part, 20, CPU.seed, "a stream").labels
    assert len(drawn.unique()) == 20
    assert torch.equal(drawn, drawn.sort().values)
    assert len(sample(part, 80, CPU.seed, "a stream")) == 50
