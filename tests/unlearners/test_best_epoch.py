"""The epoch that is kept: chosen on the selection set, by accuracy minus attack."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.unlearners.best_epoch import BestEpoch
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.neggrad import NegGrad
from advunlearn.unlearners.random_label import RandomLabel
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import Unlearner
from tests.unlearners.tasks import examples, memorised, network, same, task

UNLEARNERS = [Finetune, RandomLabel, NegGrad, SG]
OPTIONS: dict[str, Any] = {"epochs": 8, "lr": 0.1, "batch_size": 30}


@pytest.fixture(scope="module")
def original() -> nn.Module:
    return memorised(network(), [examples(60, 0), examples(30, 1)])


def scenario() -> dict[str, Any]:
    """Return a forget set of two classes beside a selection set of three."""
    forget = examples(30, 1)
    return {"forget": forget.subset((forget.labels < 2).nonzero()[:, 0]), "selection": examples(90, 3)}


@pytest.mark.parametrize("unlearner", UNLEARNERS)
def test_the_best_epochs_network_is_that_of_a_run_that_ends_there(unlearner: Any, original: nn.Module) -> None:
    best = unlearner(keep_epoch="best", **OPTIONS).unlearn(copy.deepcopy(original), task(**scenario()))
    epochs = best.trace["epochs"]
    assert len(epochs["utility"]) == 8
    assert epochs["chosen"] == np.argmax(epochs["utility"])
    ending = {**OPTIONS, "epochs": epochs["chosen"] + 1}
    alone = unlearner(**ending).unlearn(copy.deepcopy(original), task(**scenario()))
    assert same(best.network, alone.network)  # BatchNorm's statistics among it: judging has moved nothing
    assert "epochs" not in alone.trace


def test_an_epoch_before_the_last_is_kept_where_the_last_is_worse(original: nn.Module) -> None:
    method = RandomLabel(keep_epoch="best", epochs=30, lr=0.1)
    epochs = method.unlearn(copy.deepcopy(original), task(**scenario())).trace["epochs"]
    assert epochs["utility"][epochs["chosen"]] > epochs["utility"][-1]
    assert epochs["step"] == [2 * (epoch + 1) for epoch in range(30)]


def test_what_is_recorded_is_what_the_network_does(original: nn.Module) -> None:
    parts = scenario()
    unlearned = NegGrad(keep_epoch="best", **OPTIONS).unlearn(copy.deepcopy(original), task(**parts))
    epochs, model = unlearned.trace["epochs"], unlearned.network
    selection, forget = parts["selection"], parts["forget"]
    with torch.no_grad():
        logits = model(selection.inputs)
        losses = F.cross_entropy(logits, selection.labels, reduction="none")[selection.labels < 2]
        members = F.cross_entropy(model(forget.inputs), forget.labels, reduction="none")
    right = (logits.argmax(1) == selection.labels).double().mean().item()
    auc = roc_auc_score([1] * len(members) + [0] * len(losses), -torch.cat([members, losses]).numpy())
    chosen = epochs["chosen"]
    assert epochs["selection_accuracy"][chosen] == pytest.approx(right)
    assert epochs["attack_auc"][chosen] == pytest.approx(auc)
    assert epochs["utility"][chosen] == pytest.approx(right - max(auc, 1 - auc))


def answering(sure: float, count: int) -> Examples:
    """Return examples that an identity network gets right, with a margin about so large."""
    labels = torch.arange(count) % 2
    return Examples(F.one_hot(labels) * torch.linspace(sure, sure + 1, count)[:, None], labels)


def test_members_that_stand_out_either_way_cost_the_same() -> None:
    found = []
    for sure in (4.5, 3.5):
        best = BestEpoch(nn.Identity(), task(forget=answering(sure, 20), selection=answering(4.0, 20)))
        best.judge(0)
        found.append(best.trace()["epochs"])
    high, low = found
    assert high["attack_auc"][0] > 0.8
    assert high["attack_auc"][0] + low["attack_auc"][0] == pytest.approx(1)
    assert high["utility"] == pytest.approx(low["utility"])
    assert high["utility"][0] == pytest.approx(1 - high["attack_auc"][0])


def test_of_equal_epochs_the_first_is_kept() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.register_buffer("epoch", torch.tensor(0))
    best = BestEpoch(model, task(**scenario()))
    for epoch in (1, 2):
        model.epoch.fill_(epoch)  # type: ignore[operator, union-attr]
        best.judge(epoch)
    assert len(set(best.trace()["epochs"]["utility"])) == 1
    best.restore()
    assert model.epoch == 1


def test_the_last_epoch_is_kept_without_a_look_at_the_selection_set(original: nn.Module) -> None:
    poisoned = replace(examples(90, 3), inputs=torch.full((90, 1, 8, 8), torch.nan))
    ends = [SG(**OPTIONS).unlearn(copy.deepcopy(original), task(selection=selection)) for selection in (None, poisoned)]
    assert same(ends[0].network, ends[1].network)


def test_the_choice_asks_for_no_retrained_model(original: nn.Module) -> None:
    def retrain(stream: str) -> nn.Module:
        raise AssertionError("the gold standard must not be asked")

    asked = task(**scenario(), retrain=retrain)
    assert Finetune(keep_epoch="best", epochs=1).unlearn(copy.deepcopy(original), asked).trace["epochs"]


@pytest.mark.parametrize("unlearner", [Finetune(keep_epoch="best"), SG(keep_epoch="best")])
def test_a_selection_set_that_cannot_judge_is_refused(unlearner: Unlearner) -> None:
    labels = {"retain": np.arange(9) % 3, "forget": np.zeros(5, int), "audit": np.zeros(5, int)}
    with pytest.raises(UserError, match="keep_epoch=best needs a selection set"):
        unlearner.check(labels)
    with pytest.raises(UserError, match="keep_epoch=best needs selection examples of the forget set's classes, got no"):
        unlearner.check({**labels, "selection": np.arange(9) % 2 + 1})
    unlearner.check({**labels, "selection": np.arange(9) % 3})
