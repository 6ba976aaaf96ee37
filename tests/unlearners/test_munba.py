"""MUNBa: the closed form of the bargaining."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advunlearn.unlearners.gradients import bisector, gradients_norm
from advunlearn.unlearners.munba import Bargaining, MUNBa
from tests.unlearners.tasks import double, examples, flat, mlp, task


def two(seed: int, ratio: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((20, 5), (7,), ())
    first, second = ([torch.randn(shape, generator=generator).double() for shape in shapes] for _ in range(2))
    return first, [ratio * each for each in second]


@pytest.mark.parametrize("ratio", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_direction_has_norm_sqrt_2_and_equal_angles(seed: int, ratio: float) -> None:
    first, second = two(seed, ratio)
    direction = bisector(first, second)
    assert gradients_norm(direction).item() == pytest.approx(math.sqrt(2))
    angles = [torch.cosine_similarity(flat(direction), flat(each), 0).item() for each in (first, second)]
    assert angles[0] == pytest.approx(angles[1])
    assert angles[0] > 0


def test_the_direction_is_the_weighted_sum_of_the_paper() -> None:
    first, second = two(3)
    a, b = flat(first), flat(second)
    cosine = torch.cosine_similarity(a, b, 0)
    weights = [((1 - cosine) / (1 - cosine**2)).sqrt() / each.norm() for each in (a, b)]
    torch.testing.assert_close(flat(bisector(first, second)), weights[0] * a + weights[1] * b)


def test_a_vanishing_gradient_leaves_the_other_and_opposed_ones_nothing() -> None:
    first, _ = two(0)
    nothing = [torch.zeros_like(each) for each in first]
    assert torch.cosine_similarity(flat(bisector(first, nothing)), flat(first), 0).item() == pytest.approx(1)
    assert gradients_norm(bisector(nothing, first)).item() == pytest.approx(1)
    assert gradients_norm(bisector(first, [-each for each in first])).item() == pytest.approx(0, abs=1e-3)
    assert gradients_norm(bisector(nothing, nothing)).item() == 0


def test_a_step_is_that_long_at_the_learning_rate() -> None:
    parts = {"retain": double(examples(60, 0)), "forget": double(examples(30, 1)), "audit": double(examples(45, 2))}
    end = MUNBa(lr=0.1, epochs=1, batch_size=60).unlearn(mlp().double(), task(**parts)).network
    vectors = [nn.utils.parameters_to_vector(each.parameters()) for each in (end, mlp().double())]
    assert (vectors[0] - vectors[1]).norm().item() == pytest.approx(0.1 * math.sqrt(2), rel=1e-6)


def test_each_step_has_examples_of_both_kinds_and_the_losses_are_their_means() -> None:
    descent = Bargaining(MUNBa(batch_size=20), mlp(), task())
    batches = [batch[0] for batch in descent.draw()]
    assert [(int((b < 60).sum()), int((b >= 60).sum())) for b in batches] == [(20, 20), (20, 10), (20, 20)]
    assert torch.cat([batch[batch < 60] for batch in batches]).sort().values.tolist() == list(range(60))
    logits, labels = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]]), torch.tensor([0, 0])
    losses = descent.loss(None, logits, labels, torch.tensor([False, True]))
    assert losses.tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
