"""The weight-change attack: closed forms, a planted forgetting, and the interface of attacks on two models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn.attacks import gradients
from advunlearn.attacks.attack import Observations, WhiteBox
from advunlearn.attacks.gradient_norm import GradientNorm
from advunlearn.attacks.weight_change import WeightChange, cosines, difference, drawn
from advunlearn.config.compose import experiment_from
from advunlearn.data.examples import Examples
from advunlearn.evaluation.comparison import gap
from advunlearn.evaluation.metrics import auc_interval
from advunlearn.options import ConfigError, UserError
from advunlearn.report.summary.column_sets import two_model_columns
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import text
from advunlearn.report.summary.runs import summarise
from advunlearn.stages.attack import able_attacks, seen_by
from tests.report.runs import config, metrics, write
from tests.unlearners.tasks import examples, network

RNG = np.random.default_rng(0)


def observations(net: nn.Module, original: nn.Module | None, attacked: Examples) -> Observations:
    logits = torch.cat([net(inputs).detach() for inputs, _ in attacked.batches()]).numpy()[:, None]
    members = np.arange(len(attacked)) < len(attacked) // 2
    return Observations(logits, attacked.labels.numpy(), members, white_box=WhiteBox(net, attacked, original))


def test_a_linear_model_has_a_closed_form() -> None:
    torch.manual_seed(0)
    attacked, net, original = Examples(torch.randn(40, 7), torch.arange(40) % 5), nn.Linear(7, 5), nn.Linear(7, 5)
    wrong = net(attacked.inputs).softmax(1) - F.one_hot(attacked.labels, 5)
    gradient = torch.cat([(wrong[:, :, None] * attacked.inputs[:, None]).flatten(1), wrong], 1)
    change = torch.cat([(net.weight - original.weight).flatten(), net.bias - original.bias])
    expected = F.cosine_similarity(gradient, change[None]).detach().numpy()
    found = WeightChange().score(observations(net, original, attacked), None, RNG)
    np.testing.assert_allclose(found[""], expected, atol=1e-6)


@pytest.mark.parametrize("smallest", [16, 1000], ids=["vectorised", "one by one"])
def test_a_change_along_the_gradient_of_one_example_has_cosine_one(
    monkeypatch: pytest.MonkeyPatch, smallest: int
) -> None:
    monkeypatch.setattr(gradients, "SMALLEST", smallest)
    net, attacked = network().eval(), examples(20, 0)
    for sign in (1, -1):
        loss = F.cross_entropy(net(attacked.inputs[3:4]), attacked.labels[3:4])
        change = [sign * 0.01 * each.double() for each in torch.autograd.grad(loss, list(net.parameters()))]
        found = cosines(net, attacked, change)
        assert found[3] == pytest.approx(sign, abs=1e-6)
        assert np.abs(np.delete(found, 3)).max() < 0.999
        assert np.abs(found).max() <= 1 + 1e-9


def test_ascent_on_the_forget_set_is_found_and_an_unrelated_change_is_not() -> None:
    torch.manual_seed(1)
    original, attacked = nn.Linear(200, 10).double(), Examples(torch.randn(200, 200).double(), torch.arange(200) % 10)
    ascended, unrelated = copy.deepcopy(original), copy.deepcopy(original)
    loss = F.cross_entropy(original(attacked.inputs[:100]), attacked.labels[:100])
    with torch.no_grad():
        for each, own in zip(
            ascended.parameters(), torch.autograd.grad(loss, list(original.parameters())), strict=True
        ):
            each += 0.01 * own
        for each in unrelated.parameters():
            each += 0.01 * torch.randn(each.shape)
    aucs = []
    for model in (ascended, unrelated):
        score = WeightChange().score(observations(model, original, attacked), None, RNG)[""]
        aucs.append(auc_interval(score[:100], score[100:]))
    assert aucs[0][1] > 0.7
    assert aucs[1][1] < 0.5 < aucs[1][2]


def test_the_original_and_other_architectures_score_zero(caplog: pytest.LogCaptureFixture) -> None:
    attacked, net = examples(20, 0), network().eval()
    assert difference(net, copy.deepcopy(net)) is None
    assert not caplog.text
    found = WeightChange().score(observations(net, copy.deepcopy(net), attacked), None, RNG)
    assert all((score == 0).all() for score in found.values())
    assert difference(nn.Linear(3, 2), nn.Linear(3, 3)) is None
    assert "has other weights than the original" in caplog.text


def test_at_most_so_many_examples_of_each_side_are_scored() -> None:
    members = np.arange(30) < 10
    rows = drawn(members, 8, np.random.default_rng(0))
    assert (members[rows].sum(), (~members[rows]).sum()) == (8, 8)
    assert drawn(members, 30, RNG).tolist() == list(range(30))
    attacked, net = examples(30, 0), network().eval()
    found = WeightChange(examples=4).score(observations(net, network().eval(), attacked), None, RNG)
    assert [int(np.isfinite(score).sum()) for score in found.values()] == [8, 8]


def test_an_attack_sees_the_original_only_if_it_asks_and_only_a_copy() -> None:
    net, original = network().eval(), network().eval()
    target = observations(net, original, examples(20, 0))
    seen = seen_by(WeightChange(), target).white_box
    assert seen is not None
    assert seen.original is not None
    assert seen.original is not original
    plain = seen_by(GradientNorm(), target).white_box
    assert plain is not None
    assert plain.original is None
    with pytest.raises(UserError, match="needs the original"):
        WeightChange().score(observations(net, None, examples(20, 0)), None, RNG)


def test_it_needs_an_attack_on_one_model_beside_it() -> None:
    line = "attack=weight_change compares two models, and needs an attack on one beside it"
    with pytest.raises(ConfigError, match=line):
        experiment_from(["attack=weight_change"])
    attacks: Any = experiment_from(["attack=[classifier,weight_change]"]).attacks
    with pytest.raises(UserError):  # the classifier cannot be fitted to one example
        able_attacks(attacks, np.arange(10) < 1)
    model = nn.Linear(3, 2)
    data = (torch.randn(8, 3), torch.arange(8) % 2)
    with pytest.raises(UserError, match=r"use advunlearn\.compare"):
        advunlearn.audit(model, forget=data, test=data, attacks=["threshold", "weight_change"])


def test_a_comparison_prints_its_auc_for_every_method_and_it_counts_in_no_gap(tmp_path: Path) -> None:
    found = metrics({"lira": 0.1})
    for model in found["models"].values():
        model["attacks"]["weight_change"] = {**model["attacks"]["lira"], "auc": 0.625}
    own, retrained = found["models"]["unlearned"], found["models"]["retrained"]
    assert set(gap(own, retrained, without={"weight_change"})["attacks"]) == {"lira"}
    write(tmp_path / "0", config(), found)
    summary = summarise(find_runs([tmp_path]))
    (column,) = two_model_columns(summary.groups[0].runs)
    assert (column.attack, column.find(found, "unlearned")) == ("weight_change", 0.625)
    assert summary.attacks == ("lira",)
    assert "0.625" in text(summary, 1000)


def test_a_run_attacks_the_unlearned_model_with_the_original(workplace: Path) -> None:
    words = ["attack=[threshold,weight_change]", "unlearner=gradient_ascent", "optimizer.epochs=20", "device=cpu"]
    result = advunlearn.run([*words, "dataset.train_size=120", "threads=1"], "run")
    found = {name: model["attacks"]["weight_change"] for name, model in result.metrics["models"].items()}
    assert found["original"]["auc"] == 0.5
    assert found["unlearned"]["auc"] != found["retrained"]["auc"]
    assert "weight_change" not in result.metrics["gap"]["unlearned"]["attacks"]
