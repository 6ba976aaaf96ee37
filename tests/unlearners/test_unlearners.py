"""The game beside its twin, and the baselines."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.auditors.auditor import Audit, Auditor
from advunlearn.auditors.svm import SVM
from advunlearn.data.examples import Examples
from advunlearn.options import OptionError
from advunlearn.settings import Settings
from advunlearn.training.fit import Diverged
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.none import None_
from advunlearn.unlearners.retrain import Retrain
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import Task, Unlearner, shared_classes

CPU = Settings(device="cpu")


def examples(count: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = torch.randn(count, 1, 8, 8, generator=generator)
    return Examples(inputs + 0.5 * labels[:, None, None, None], labels)


def task(**changes: Any) -> Task:
    parts = {"retain": examples(60, 0), "forget": examples(30, 1), "audit": examples(45, 2), "settings": CPU}
    return Task(**{**parts, **changes})


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )


def memorised(model: nn.Module, parts: list[Examples]) -> nn.Module:
    """Fit a model until it knows these examples by heart."""
    inputs = torch.cat([part.inputs for part in parts])
    labels = torch.cat([part.labels for part in parts])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 3))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first).values(), weights(second).values(), strict=True))


@pytest.mark.parametrize("audit_every", [1, 3])
def test_alpha_zero_is_finetuning_to_the_bit(audit_every: int) -> None:
    options = {"epochs": 3, "lr": 0.05, "batch_size": 16}
    twin = SG(alpha=0, audit_every=audit_every, **options).unlearn(network(), task())
    tuned = Finetune(**options).unlearn(network(), task())
    assert same(twin.network, tuned.network)
    assert twin.trace["auditor_accuracy"]
    assert twin.trace["game_gradient_norm"][0] is None
    assert tuned.trace == {}


def test_the_game_is_not_its_twin() -> None:
    options = {"epochs": 2, "lr": 0.05, "batch_size": 16}
    original = memorised(mlp(), [examples(60, 0), examples(30, 1)])
    game = SG(alpha=1, **options).unlearn(copy.deepcopy(original), task())
    twin = SG(alpha=0, **options).unlearn(copy.deepcopy(original), task())
    assert not same(game.network, twin.network)
    assert max(game.trace["game_gradient_norm"]) > 0
    assert all(-1 <= cosine <= 1 for cosine in game.trace["cosine"])


def test_the_auditor_sees_memorisation_and_not_its_absence() -> None:
    known = memorised(mlp(), [examples(60, 0), examples(30, 1)])
    unknown = memorised(mlp(), [examples(60, 0)])
    watch = SG(alpha=0, lr=1e-9, epochs=4, batch_size=60, audit_size=30)
    seen, unseen = (np.mean(watch.unlearn(model, task()).trace["auditor_accuracy"]) for model in (known, unknown))
    assert seen > 0.75
    assert unseen < 0.62


def test_the_game_lowers_what_the_auditor_sees() -> None:
    original = memorised(mlp(), [examples(60, 0), examples(30, 1)])
    options = {"epochs": 40, "lr": 0.02, "batch_size": 30}
    game, twin = (SG(alpha=a, **options).unlearn(copy.deepcopy(original), task()).trace for a in (3, 0))
    assert np.mean(game["auditor_accuracy"][-20:]) < np.mean(twin["auditor_accuracy"][-20:]) - 0.1
    assert np.mean(game["utility"][-20:]) < np.mean(twin["utility"][-20:])
    assert game["uninformed_utility"] == SVM.uninformed


class Spy(Auditor):
    """Record what it is shown, and in which mode the network's BatchNorm made it."""

    uninformed = 0.0

    def __init__(self, model: nn.Module) -> None:
        self.mode = True
        self.seen: list[tuple[int, int, bool]] = []
        model[1].register_forward_pre_hook(lambda module, _: setattr(self, "mode", module.training))  # type: ignore[index]

    def utility(self, member_scores, nonmember_scores, member_labels, nonmember_labels, generator) -> Audit:  # type: ignore[no-untyped-def]
        self.seen.append((len(member_scores), len(nonmember_scores), self.mode))
        return Audit(member_scores.sum() * 0, torch.tensor(0.5))


def test_audits_are_scored_in_evaluation_mode_and_leave_no_trace_in_batchnorm() -> None:
    model = network()
    spy = Spy(model)
    SG(alpha=1, auditor=spy, epochs=2, batch_size=20, audit_size=12).unlearn(model, task())
    tuned = Finetune(epochs=2, batch_size=20).unlearn(network(), task()).network
    assert spy.seen == [(12, 12, False)] * 6
    for name, value in tuned.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])  # a utility without gradient leaves fine-tuning, to the bit
    assert not model.training


def test_retain_steps_run_in_training_mode_in_every_epoch() -> None:
    model = network().eval()
    before = model[1].running_mean.clone()  # type: ignore[index, union-attr]
    seen = []
    model[1].register_forward_pre_hook(lambda module, _: seen.append(module.training))  # type: ignore[index, union-attr]
    SG(alpha=1, epochs=3, batch_size=30).unlearn(model, task())
    assert seen == [True, False] * 6
    assert not torch.equal(before, model[1].running_mean)  # type: ignore[index, union-attr]


def test_audit_every_k_steps() -> None:
    trace = SG(alpha=1, epochs=2, batch_size=10, audit_every=5).unlearn(network(), task()).trace
    assert trace["step"] == [0, 5, 10]
    assert trace["epoch"] == [0, 0, 1]


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    runs = [SG(epochs=2).unlearn(network(), task(settings=Settings(seed=s, device="cpu"))).network for s in (1, 1, 2)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_the_auditor_is_shown_the_forget_sets_classes_only() -> None:
    forget = examples(30, 1).subset(np.arange(0, 30, 3))
    assert shared_classes(examples(45, 2), forget, "audit").tolist() == list(range(0, 45, 3))
    with pytest.raises(ValueError, match=r"no example of the forget set's classes.*dataset\.audit_fraction"):
        shared_classes(examples(45, 2).subset(np.array([1, 2, 4])), forget, "audit")


def test_none_leaves_the_model_as_it_is() -> None:
    model = network()
    before = weights(model)
    after = weights(None_().unlearn(model, task()).network)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_retrain_asks_for_a_stream_of_its_own_and_needs_a_recipe() -> None:
    streams: list[str] = []

    def retrain(stream: str) -> nn.Module:
        streams.append(stream)
        return network(7)

    assert same(Retrain().unlearn(network(), task(retrain=retrain)).network, network(7))
    assert streams == ["retrain"]
    with pytest.raises(ValueError, match="needs a model's recipe"):
        Retrain().unlearn(network(), task())


def test_divergence_is_said_in_one_line() -> None:
    with pytest.raises(Diverged, match=r"unlearning diverged .* lower unlearner\.lr=1e\+30"):
        Finetune(lr=1e30, epochs=3).unlearn(network(), task())


def test_a_game_that_diverges_says_what_to_lower() -> None:
    with pytest.raises(Diverged, match=r"lower unlearner\.lr=1e\+30 or unlearner\.alpha=3"):
        SG(lr=1e30, epochs=3).unlearn(network(), task())


def test_a_game_about_one_example_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 examples to forget"):
        SG().unlearn(network(), task(forget=examples(1, 1)))


def test_a_method_that_returns_something_else_is_told_what_to_return() -> None:
    class Careless(Unlearner):
        def unlearn(self, network: nn.Module, task: Task) -> nn.Module:  # type: ignore[override]
            return network

    with pytest.raises(ValueError, match=r"Careless\.unlearn must return Unlearned\(network\), got Sequential"):
        Careless().run(network(), task())


def test_something_that_is_no_auditor_is_refused() -> None:
    with pytest.raises(OptionError, match="auditor must be an Auditor"):
        SG(auditor=3)
