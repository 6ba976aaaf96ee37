"""The pieces of the Newton solver that no fitted classifier shows: the line search and what stands in for curvature."""

from __future__ import annotations

import pytest
import torch

from advunlearn.auditors.solvers import linear, newton
from advunlearn.auditors.solvers.newton import SMOOTH_LOSSES
from tests.auditors.solvers.test_linear import problem as examples


@pytest.mark.parametrize("loss", SMOOTH_LOSSES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_line_search_stops_just_before_the_lowest_point(loss: str, scale: float) -> None:
    _, problem = linear._pose(*examples(20, 40, 3), torch.full((20, 1), 1 / 40, dtype=torch.float64), 0.1)
    start = torch.zeros(20, 4, dtype=torch.float64)
    point = newton._look(problem, SMOOTH_LOSSES[loss], start)
    direction = -point.gradient / (scale * point.gradient.norm(dim=1, keepdim=True))
    length = newton._length(problem, SMOOTH_LOSSES[loss], point, direction)

    def slope(at: torch.Tensor) -> torch.Tensor:
        moved = newton._look(problem, SMOOTH_LOSSES[loss], start + at * direction)
        return (moved.gradient * direction).sum(1)

    assert bool((slope(length) <= 1e-12).all())
    beyond = slope(length * (1 + 1 / 8))
    assert bool((beyond[(length < 15.5)[:, 0]] >= 0).all())
    assert scale < 30 or bool((length == 15.5).any())  # a step that is too short by far is not made longer than this


def test_where_a_loss_is_straight_a_parabola_that_touches_it_stands_in() -> None:
    margins = torch.tensor([[-4.0, -1.0, 0.5, 2.0]], dtype=torch.float64)
    force, curvature = SMOOTH_LOSSES["huber_hinge"]
    # c / 2 (1 - m)^2 + constant has its lowest point at 1 and touches where its slope is the loss's: c (1 - m) = force.
    touching = force(margins) / (1 - margins)
    assert curvature(margins, torch.ones(1, 1, dtype=torch.float64)).tolist() == touching.clamp(min=0).tolist()
    assert curvature(margins, 0.0).tolist() == [[0.0, 0.0, 1.0, 0.0]]
