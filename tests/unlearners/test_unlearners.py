"""The game beside its twin, and the simplest unlearners."""

from __future__ import annotations

import copy
import itertools
import logging
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.auditors.auditor import Audit, Auditor
from advunlearn.auditors.likelihood_ratio import LikelihoodRatio
from advunlearn.auditors.scores import logit_margin
from advunlearn.auditors.svm import SVM
from advunlearn.data.examples import Examples
from advunlearn.options import OptionError, UserError
from advunlearn.runtime.settings import Settings
from advunlearn.training.fit import Diverged
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.gradients import gradients_cosine, gradients_norm
from advunlearn.unlearners.neggrad import NegGrad
from advunlearn.unlearners.none import None_
from advunlearn.unlearners.random_label import RandomLabel
from advunlearn.unlearners.retrain import Retrain
from advunlearn.unlearners.sg import SG, Game, bases
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner
from tests.unlearners.tasks import examples, memorised, mlp, network, same, task, weights

BASES = {"finetune": Finetune, "neggrad": NegGrad, "random_label": RandomLabel}


@pytest.mark.parametrize("base", list(BASES))
@pytest.mark.parametrize("audit_every", [1, 3])
def test_alpha_zero_is_its_base_to_the_bit(base: str, audit_every: int) -> None:
    options = {"epochs": 3, "lr": 0.05, "batch_size": 16, "weight_decay": 0.01}
    twin = SG(base=base, alpha=0, audit_every=audit_every, **options).unlearn(network(), task())
    alone = BASES[base](**options).unlearn(network(), task())
    assert same(twin.network, alone.network)
    assert twin.trace["auditor_accuracy"]
    assert twin.trace["game_gradient_norm"][0] is None
    assert alone.trace == {}


def test_the_bases_are_found_by_the_names_of_their_files_and_differ() -> None:
    ends = [SG(base=base, alpha=0, epochs=1).unlearn(network(), task()).network for base in BASES]
    assert BASES.items() <= bases().items()
    assert not any(same(first, second) for first, second in itertools.combinations(ends, 2))


def test_the_game_takes_its_bases_own_weight() -> None:
    options = {"epochs": 1, "forget_weight": 3.0}
    game = SG(base="neggrad", alpha=0, **options).unlearn(network(), task())
    assert same(game.network, NegGrad(**options).unlearn(network(), task()).network)
    assert not same(game.network, NegGrad(epochs=1).unlearn(network(), task()).network)


@dataclass
class Half(Finetune):
    """A base of the user's own, with an option of its own."""

    weight: float = 0.5

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, forgotten: torch.Tensor) -> torch.Tensor:
        """Return a part of the cross-entropy."""
        return self.weight * super().loss(logits, labels, forgotten)


@dataclass
class Marked(GradientUnlearner):
    """Record which examples are marked as forgotten."""

    order: str = "retain,forget"

    def examples(self, task: Task) -> Examples:
        """Return the parts in the given order."""
        first, *others = (getattr(task, part) for part in self.order.split(","))
        return first.followed_by(*others) if others else first

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, forgotten: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy."""
        marks.append(int(forgotten.sum()))
        return super().loss(logits, labels, forgotten)


marks: list[int] = []


@pytest.mark.parametrize(("order", "forgotten"), [("retain,forget", 1), ("retain", 0), ("forget", 1)])
def test_forget_examples_are_marked_whichever_parts_are_used(order: str, forgotten: int) -> None:
    marks.clear()
    given = task()
    Marked(epochs=1, order=order).unlearn(network(), given)
    assert sum(marks) == forgotten * len(given.forget)


@pytest.mark.parametrize("order", ["forget,retain", "audit"])
def test_examples_in_another_order_are_refused(order: str) -> None:
    with pytest.raises(UserError, match="examples must return the retain set, the forget set, or both"):
        Marked(epochs=1, order=order).unlearn(network(), task())


@dataclass
class Custom(Finetune):
    """A method that does more than its steps."""

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the network as it is."""
        return Unlearned(network)


def test_a_base_whose_own_unlearn_the_game_would_ignore_is_refused() -> None:
    with pytest.raises(OptionError, match="base must not override unlearn"):
        SG(base=Custom())


@pytest.mark.parametrize("named", [True, False])
def test_an_own_method_can_be_the_base_and_takes_the_games_steps(named: bool) -> None:
    steps = {"epochs": 2, "lr": 0.05, "momentum": 0.5}
    base = f"{__name__}.Half" if named else Half(epochs=1, lr=1e30, weight=0.25)
    game = SG(base=base, alpha=0, **steps)
    alone = Half(weight=0.5 if named else 0.25, **steps).unlearn(network(), task())
    assert same(game.unlearn(network(), task()).network, alone.network)
    assert not same(alone.network, Finetune(**steps).unlearn(network(), task()).network)
    assert "source" in game.identity()["base"]  # so that another version of the file makes another model


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("fintune", f"base must be one of {', '.join(bases())}, or module.Class of your own, got fintune"),
        ("nowhere.Mine", "base: cannot import nowhere.Mine (ModuleNotFoundError: No module named 'nowhere')"),
        ("advunlearn.unlearners.none.None_", "base must be a GradientUnlearner, got advunlearn.unlearners.none.None_"),
        ("advunlearn.unlearners.sg.STEPS", "base must be a GradientUnlearner, got advunlearn.unlearners.sg.STEPS"),
        (3, "base must be a GradientUnlearner, got 3"),
        (SG(), "base must be a GradientUnlearner, got SG("),
    ],
)
def test_what_cannot_be_the_base_is_refused(base: Any, problem: str) -> None:
    with pytest.raises(OptionError, match=re.escape(problem)):
        SG(base=base)


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


@pytest.mark.parametrize("optimizer_state", ["shared", "separate"])
@pytest.mark.parametrize("base", list(BASES))
def test_audits_are_scored_in_evaluation_mode_and_leave_no_trace_in_batchnorm(base: str, optimizer_state: str) -> None:
    model = network()
    spy = Spy(model)
    options = {"epochs": 2, "batch_size": 20, "weight_decay": 0.1}
    game = SG(alpha=1, base=base, auditor=spy, audit_size=12, optimizer_state=optimizer_state, **options)
    game.unlearn(model, task())
    assert set(spy.seen) == {(12, 12, False)}
    # A utility without gradient leaves the base to the bit, weights and statistics: nor does the game's own step decay.
    assert same(model, BASES[base](**options).unlearn(network(), task()).network)
    assert not model.training


def test_what_the_auditor_remarks_is_said_once_a_run(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        SG(alpha=1, epochs=2, batch_size=20, audit_size=6).unlearn(network(), task())
    assert [record.message for record in caplog.records] == [
        "audit step 0: one auditor for all classes: some have fewer than 10 examples"
    ]


@pytest.mark.parametrize("base", list(BASES))
def test_every_epochs_steps_move_the_running_statistics_and_no_audit_does(base: str) -> None:
    model = network().eval()
    seen: list[tuple[bool, bool]] = []

    def moved(module: nn.BatchNorm2d, inputs: object, _: object) -> None:
        seen.append((module.training, not torch.equal(module.running_mean, moved.last)))  # type: ignore[attr-defined, arg-type]
        moved.last = module.running_mean.clone()  # type: ignore[attr-defined, union-attr]

    moved.last = model[1].running_mean.clone()  # type: ignore[attr-defined, index, union-attr]
    model[1].register_forward_hook(moved)  # type: ignore[index, arg-type]
    steps = SG(alpha=1, base=base, epochs=3, batch_size=30).unlearn(model, task()).trace["step"]
    assert seen == [(True, True), (False, False)] * len(steps)
    assert model[1].num_batches_tracked == len(steps) == 3 * (2 if base == "finetune" else 3)  # type: ignore[index, union-attr]


@pytest.mark.parametrize("base", ["random_label", "neggrad"])
def test_forget_examples_go_through_batchnorm_in_one_batch_with_retain_examples(base: str) -> None:
    model = network()
    batches: list[torch.Tensor] = []
    model[0].register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))  # type: ignore[index]
    parts = {"retain": Examples(torch.ones(60, 1, 8, 8), examples(60, 0).labels), "forget": examples(30, 1)}
    BASES[base](epochs=1, batch_size=30).unlearn(model, task(**parts))
    kept = [int((batch == 1).all(dim=(1, 2, 3)).sum()) for batch in batches]
    assert [len(batch) for batch in batches] == [30, 30, 30]
    assert sum(kept) == 60
    assert all(0 < count < 30 for count in kept)


def both_states(**options: Any) -> list[torch.Tensor]:
    """Return the weights after a game with shared and with separate optimiser state."""
    original = memorised(mlp(), [examples(60, 0), examples(30, 1)]).double()
    doubles = {
        name: replace(part, inputs=part.inputs.double())
        for name, part in {"retain": examples(60, 0), "forget": examples(30, 1), "audit": examples(45, 2)}.items()
    }
    options = {"alpha": 1, "epochs": 2, "batch_size": 10, "lr": 0.01, "schedule": "cosine", **options}
    ends = [
        SG(optimizer_state=state, **options).unlearn(copy.deepcopy(original), task(**doubles)).network
        for state in ("shared", "separate")
    ]
    return [nn.utils.parameters_to_vector(end.parameters()) for end in ends]


@pytest.mark.parametrize("options", [{"audit_every": 1}, {"audit_every": 3, "momentum": 0}])
def test_momentum_is_linear_so_shared_and_separate_state_agree(options: dict[str, Any]) -> None:
    shared, separate = both_states(**options)
    torch.testing.assert_close(shared, separate, rtol=0, atol=1e-12)


def test_shared_state_pushes_on_between_audits_and_separate_state_does_not() -> None:
    shared, separate = both_states(audit_every=3)
    assert (shared - separate).norm() > 1e-3


def test_audit_every_k_steps() -> None:
    trace = SG(alpha=1, epochs=2, batch_size=10, audit_every=5).unlearn(network(), task()).trace
    assert trace["step"] == [0, 5, 10]
    assert trace["epoch"] == [0, 0, 1]


class MeanScore(Auditor):
    """Like high scores of forget examples: an answer whose gradient is plain."""

    uninformed = 0.0

    def utility(self, member_scores, nonmember_scores, member_labels, nonmember_labels, generator) -> Audit:  # type: ignore[no-untyped-def]
        return Audit(member_scores.mean(), torch.tensor(0.5))


def test_the_trace_holds_the_norms_of_both_gradients_and_their_cosine() -> None:
    model = mlp()
    base, game = (
        torch.cat([gradient.flatten() for gradient in torch.autograd.grad(value, list(model.parameters()))])
        for value in (
            F.cross_entropy(model(examples(60, 0).inputs), examples(60, 0).labels),
            2.5 * logit_margin(model(examples(30, 1).inputs), examples(30, 1).labels).mean(),
        )
    )
    whole = {"epochs": 1, "batch_size": 60, "audit_size": 30}
    trace = SG(alpha=2.5, auditor=MeanScore(), features="margin", **whole).unlearn(model, task()).trace
    assert trace["base_gradient_norm"] == pytest.approx([base.norm().item()], rel=1e-5)
    assert trace["game_gradient_norm"] == pytest.approx([game.norm().item()], rel=1e-5)
    assert trace["cosine"] == pytest.approx([F.cosine_similarity(base, game, dim=0).item()], abs=1e-5)


def test_the_utility_moves_when_the_model_moves_and_only_then() -> None:
    original = memorised(mlp(), [examples(60, 0), examples(30, 1)])
    first, again, other = (
        SG(alpha=0, epochs=1, batch_size=60).unlearn(copy.deepcopy(model), task()).trace["utility"]
        for model in (original, original, memorised(mlp(), [examples(60, 0)]))
    )
    assert first == again
    assert first[0] > other[0] + 0.1
    moving = SG(alpha=3, epochs=20, lr=0.02, batch_size=60).unlearn(original, task()).trace["utility"]
    assert len(set(moving)) == 20


def test_the_utility_is_the_uninformed_one_where_forget_and_audit_are_of_one_distribution() -> None:
    parts = {"forget": examples(300, 1), "audit": examples(300, 2)}
    stranger = memorised(mlp(), [examples(60, 0)])
    for features in ("loss_margin", "logits_loss"):
        watch = SG(alpha=0, features=features, epochs=1, batch_size=10)
        trace = watch.unlearn(copy.deepcopy(stranger), task(**parts)).trace
        assert np.mean(trace["utility"]) == pytest.approx(trace["uninformed_utility"], abs=0.05)
        assert np.mean(trace["auditor_accuracy"]) == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    runs = [SG(epochs=2).unlearn(network(), task(settings=Settings(seed=s, device="cpu"))).network for s in (1, 1, 2)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_the_auditor_is_shown_the_forget_sets_classes_only() -> None:
    forget = examples(30, 1).subset(np.arange(0, 30, 3))
    game = Game(SG(), network(), task(forget=forget))
    assert game.labels.unique().tolist() == [0]
    assert game.counts == (10, 15)


def test_none_leaves_the_model_as_it_is() -> None:
    model = network()
    before = weights(model)
    after = weights(None_().unlearn(model, task()).network)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_retrain_asks_for_a_stream_of_its_own_and_needs_a_training_setup() -> None:
    streams: list[str] = []

    def retrain(stream: str) -> nn.Module:
        streams.append(stream)
        return network(7)

    assert same(Retrain().unlearn(network(), task(retrain=retrain)).network, network(7))
    assert streams == ["retrain"]
    with pytest.raises(ValueError, match="needs a training setup"):
        Retrain().unlearn(network(), task())


def test_divergence_is_said_in_one_line() -> None:
    with pytest.raises(Diverged, match=r"unlearning diverged .*; lower unlearner\.lr=1e\+30$"):
        Finetune(lr=1e30, epochs=3).run(network(), task())


def test_a_game_that_diverges_says_what_to_lower() -> None:
    with pytest.raises(Diverged, match=r"lower unlearner\.lr=1e\+30 or unlearner\.alpha=3"):
        SG(lr=1e30, epochs=3).run(network(), task())


def test_a_game_against_one_audit_example_is_refused() -> None:
    labels = {"retain": np.arange(9) % 3, "forget": np.zeros(5, int), "audit": np.arange(3)}
    with pytest.raises(UserError, match=r"at least 2 audit examples of the forget set's classes, got 1$"):
        SG(base="neggrad").check(labels)
    with pytest.raises(UserError, match=r"got 1$"):
        SG().unlearn(network(), task(audit=examples(1, 1)))


def test_one_forget_example_is_for_an_auditor_that_is_not_fitted_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """Fitted on one example and tested on another, an auditor needs two; the game then equals its base to the bit."""
    one = {"retain": np.arange(9) % 3, "forget": np.zeros(1, int), "audit": np.arange(9) % 3}
    SG(auditor=LikelihoodRatio()).check(one)
    assert not caplog.records
    SG(base="neggrad").check(one)
    assert "the game equals its base, NegGrad (auditor=likelihood_ratio needs only one)" in caplog.text
    request = task(forget=examples(1, 1))
    game, base = (each.unlearn(network(), request) for each in (SG(epochs=2), Finetune(epochs=2, lr=0.01)))
    assert set(game.trace["utility"]) == {SVM.uninformed}
    assert all(map(torch.equal, game.network.parameters(), base.network.parameters()))


def diverged(unlearner: Unlearner, model: nn.Module) -> str:
    with pytest.raises(Diverged) as caught:
        unlearner.run(model, task())
    return str(caught.value)


@pytest.mark.parametrize(
    ("unlearner", "wanted"),
    [
        (NegGrad(forget_weight=1e30, epochs=3), "lower unlearner.lr=0.01 or unlearner.forget_weight=1e+30"),
        (SG(alpha=1e30, epochs=3), "lower unlearner.lr=0.01 or unlearner.alpha=1e+30"),
        (Finetune(weight_decay=1e30, epochs=3), "lower unlearner.lr=0.01 or unlearner.weight_decay=1e+30"),
        (Finetune(lr=1e38, epochs=1, batch_size=100), "lower unlearner.lr=1e+38"),  # its only loss is finite
    ],
    ids=["ascent", "game", "decay", "last step"],
)
def test_divergence_names_the_options_that_may_cause_it(unlearner: Unlearner, wanted: str) -> None:
    message = diverged(unlearner, network())
    assert message.startswith("unlearning diverged (")
    assert message.endswith(f"); {wanted}")


def test_a_model_that_diverged_before_is_not_blamed_on_unlearning() -> None:
    model = network()
    with torch.no_grad():
        model[-1].weight *= 1e30
    message = diverged(Finetune(lr=0.1, epochs=3), model)
    assert message.startswith("the model had diverged before unlearning (its logits reach ")
    assert "unlearner" not in message


def test_a_method_of_ones_own_that_leaves_infinite_logits_is_told_so() -> None:
    class Explode(Unlearner):
        def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
            for weight in network.parameters():
                weight.data /= 0.0
            return Unlearned(network)

    assert diverged(Explode(), network()) == "unlearning diverged (infinite logits)"


def test_a_method_that_returns_something_else_is_told_what_to_return() -> None:
    class Careless(Unlearner):
        def unlearn(self, network: nn.Module, task: Task) -> nn.Module:  # type: ignore[override]
            return network

    with pytest.raises(ValueError, match=r"Careless\.unlearn must return Unlearned\(network\), got Sequential"):
        Careless().run(network(), task())


def test_something_that_is_no_auditor_is_refused() -> None:
    with pytest.raises(OptionError, match="auditor must be an Auditor"):
        SG(auditor=3)


@pytest.mark.parametrize("ratio", [1.0, 1e-12, 1e12])
def test_norms_and_cosine_are_those_of_the_flat_vectors(ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=generator) for shape in ((300, 40), (7,), ())]
    second = [ratio * (each + torch.randn(each.shape, generator=generator)) for each in first]
    flat = [torch.cat([each.flatten() for each in tensors]).double() for tensors in (first, second)]
    norms = [gradients_norm(tensors) for tensors in (first, second)]
    for norm, vector in zip(norms, flat, strict=True):
        assert norm.item() == pytest.approx(vector.norm().item(), rel=1e-12)
    cosine = gradients_cosine(first, norms[0], second, norms[1])
    assert cosine.item() == pytest.approx((flat[0] @ flat[1] / flat[0].norm() / flat[1].norm()).item(), abs=1e-6)
    nothing = [torch.zeros_like(each) for each in first]
    assert gradients_cosine(first, norms[0], nothing, gradients_norm(nothing)).item() == 0
