"""A function of the caller has another digest whenever something that its result depends on is another."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import advunlearn
from advunlearn.api.own_trainer import function_digest

EPOCHS = 3
Function = Callable[..., Any]


class Training:
    """A training with a state."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, dataset: Any, seed: int) -> int:
        return self.epochs

    def fit(self, dataset: Any, seed: int) -> int:
        return self.epochs


def closing_over(value: Any) -> Function:
    return lambda dataset, seed: value


def with_default(value: Any) -> Function:
    def train(dataset: Any, seed: int, *, epochs: Any = value) -> Any:
        return epochs

    return train


def plain(dataset: Any, seed: int) -> int:
    return EPOCHS + seed


def through_another(dataset: Any, seed: int) -> int:
    return plain(dataset, seed)


@pytest.mark.parametrize("make", [closing_over, with_default, lambda value: functools.partial(plain, value)])
def test_the_values_that_it_uses_are_in_it(make: Callable[[Any], Function]) -> None:
    assert function_digest(make(1)) == function_digest(make(1))
    assert function_digest(make(1)) != function_digest(make(2))


@pytest.mark.parametrize("function", [plain, through_another])
def test_globals_are_in_it(function: Function, monkeypatch: pytest.MonkeyPatch) -> None:
    before = function_digest(function)
    assert function_digest(function) == before
    monkeypatch.setitem(globals(), "EPOCHS", 4)
    assert function_digest(function) != before


def test_two_functions_of_one_line_are_two() -> None:
    one, other = (lambda dataset, seed: 1), (lambda dataset, seed: 2)
    assert function_digest(one) != function_digest(other)


@pytest.mark.parametrize(
    "function", [Training(1), Training(1).fit, closing_over(Training(1)), closing_over(torch.ones(1))]
)
def test_what_cannot_be_known_is_never_found_again(function: Function) -> None:
    assert function_digest(function) != function_digest(function)


def test_a_comparison_with_another_cut_of_the_same_data_is_another(workplace: object) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(120, 6), torch.arange(120) % 3
    models = {name: nn.Linear(6, 3) for name in ("original", "unlearned", "retrained")}
    found = [
        advunlearn.compare(**models, retain=(x[:cut], y[:cut]), forget=(x[cut:80], y[cut:80]), test=(x[80:], y[80:]))
        for cut in (50, 59)
    ]
    counts = [each.metrics["models"]["original"]["attacks"]["threshold"]["members"] for each in found]
    assert counts[0] > counts[1]
    assert "unlearning" not in found[0].metrics  # nothing is known of how the model was unlearned
    assert "attack AUC" in str(found[0])
