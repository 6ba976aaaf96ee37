"""The Python API checks the caller's data and model as a run checks its own, and says so in the caller's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import advunlearn
from advunlearn.options import UserError

IMAGES, LABELS = (torch.as_tensor(each) for each in load_digits(return_X_y=True))
INPUTS = (IMAGES / 16).float()
Part = tuple[Tensor, Tensor]


def part(rows: Any) -> Part:
    return INPUTS[rows], LABELS[rows]


def trained(rows: Any) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(network(INPUTS[rows]), LABELS[rows]).backward()
        optimizer.step()
    return network


TRAIN, TEST = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).split([900, 897])


def of_class(rows: Tensor, label: int) -> Tensor:
    return rows[LABELS[rows] == label]


def test_a_forgotten_class_is_compared_with_its_own_test_examples() -> None:
    forget, rest = of_class(TRAIN, 1), TRAIN[LABELS[TRAIN] != 1]
    network = trained(rest)  # it never saw a member of class 1: nothing is left to find
    found = advunlearn.audit(network, forget=part(forget), test=part(TEST))
    assert found == advunlearn.audit(network, forget=part(forget), test=part(of_class(TEST, 1)))
    assert found["threshold"]["nonmembers"] == len(of_class(TEST, 1))
    assert found["threshold"]["auc_low"] < 0.5 < found["threshold"]["auc_high"]


def test_a_class_with_a_larger_share_of_the_forget_set_is_no_evidence(caplog: pytest.LogCaptureFixture) -> None:
    forget = torch.cat([of_class(TRAIN, 1)[:70], TRAIN[LABELS[TRAIN] != 1][:30]])
    # Trained without the forget set, and with little else of class 1: a class that it knows badly.
    network = trained(TRAIN[~torch.isin(TRAIN, forget)])
    found = advunlearn.audit(network, forget=part(forget), test=part(TEST))["threshold"]
    assert found["auc_low"] < 0.5 < found["auc_high"]
    assert found["nonmembers"] < len(TEST) / 3
    assert "the classes have different shares of the forget set and of the test set: 0 of 100 forget and" in caplog.text


ZEROS = torch.zeros(6, dtype=torch.long)
BAD: dict[str, tuple[Any, str]] = {
    "no class": ((INPUTS[:6], ZEROS - 100), "forget labels must be at least 0, got -100"),
    "a class too many": (
        (INPUTS[:6] + 1, ZEROS + 10),
        "forget labels must be at most 9, as the model has 10 logits, got 10",
    ),
    "not a number": ((INPUTS[:6] * torch.nan, ZEROS), "forget inputs must be finite, got NaN or infinity"),
    "another size": ((INPUTS[:6, :5], ZEROS), "inputs must have the shape of "),
    "no pair": (INPUTS[:6], "forget must be a pair (inputs, labels)"),
    "words": ((np.array(["a"] * 6), ZEROS), "forget must be a pair (inputs, labels) of tensors or arrays of numbers"),
    "fractions": ((INPUTS[:6], ZEROS / 2), "forget labels must be whole numbers (n,), got torch.float32 (6,)"),
    "scores": ((INPUTS[:6], F.one_hot(ZEROS, 3)), "forget labels must be whole numbers (n,), got torch.int64 (6, 3)"),
    "a part of another": (part(TEST[:20]), "forget and "),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("function", ["audit", "unlearn"])
def test_bad_data_is_refused_in_one_line_that_names_the_part(function: str, case: str) -> None:
    forget, wanted = BAD[case]
    others = {"test": part(TEST)} if function == "audit" else {"retain": part(TRAIN), "audit": part(TEST)}
    with pytest.raises(UserError) as caught:
        getattr(advunlearn, function)(nn.Linear(64, 10), forget=forget, **others)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def frozen() -> nn.Module:
    return nn.Linear(64, 10).requires_grad_(False)


def diverged() -> nn.Module:
    network = nn.Linear(64, 10)
    nn.init.constant_(network.weight, torch.nan)
    return network


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (nn.Linear(64, 1), "labels must be at most 1, as the model has 2 logits, got 9"),  # one sigmoid logit
        (nn.Unflatten(1, (8, 8)), "the network must return logits (n, 2), one for each class, got (n, 8, 8)"),
        (nn.Linear(64, 7), "labels must be at most 6, as the model has 7 logits, got 9"),
        (diverged(), "the model's logits for retain are not finite; it has diverged in its training"),
        (frozen(), "the model has no weight to change: none has requires_grad=True"),
    ],
)
def test_a_model_that_cannot_be_unlearned_is_refused_in_one_line(model: nn.Module, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        advunlearn.unlearn(model, retain=part(TRAIN[100:]), forget=part(TRAIN[:100]), audit=part(TEST))
    assert wanted in str(caught.value)


def test_a_game_that_cannot_be_played_is_refused_in_the_callers_words() -> None:
    with pytest.raises(UserError, match=r"at least 2 audit examples of the forget set's classes, got 0$"):
        advunlearn.unlearn(
            nn.Linear(64, 10),
            retain=part(TRAIN[LABELS[TRAIN] != 1]),
            forget=part(of_class(TRAIN, 1)[:5]),
            audit=part(of_class(TEST, 2)),
        )


class Masked(nn.Linear):
    """A model of ten classes of which one is never chosen."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs).index_fill(1, torch.tensor([9]), -torch.inf)


def test_a_model_may_mask_a_class() -> None:
    few = [rows[LABELS[rows] != 9] for rows in (TRAIN, TEST)]
    parts = {"retain": part(few[0][50:]), "forget": part(few[0][:50])}
    unlearned = advunlearn.unlearn(Masked(64, 10), **parts, audit=part(few[1][:300]), epochs=1)
    found = advunlearn.audit(unlearned, forget=parts["forget"], test=part(few[1][300:]), attacks="threshold")
    assert 0 < found["threshold"]["auc"] < 1
