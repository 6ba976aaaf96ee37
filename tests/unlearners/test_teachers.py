"""SCRUB, bad teacher and LoTUS: what the teachers are, and what is learned from them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from advunlearn.data.examples import Examples
from advunlearn.options import OptionError, UserError
from advunlearn.runtime.seeding import torch_stream
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.unlearners.bad_teacher import BadTeacher, TwoTeachers, taught
from advunlearn.unlearners.descent import AtEpoch, sampled_rows
from advunlearn.unlearners.lotus import LoTUS, Smoothing, temperature
from advunlearn.unlearners.scrub import SCRUB, Distillation, divergence
from tests.unlearners.tasks import CPU, examples, known, network, same, task, weights


def test_the_divergence_is_that_by_hand() -> None:
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(teacher, student, 2.0).item() == pytest.approx(wanted)
    assert divergence(teacher, teacher, 2.0).item() == pytest.approx(0)


def test_scrubs_loss_leaves_the_teacher_on_forget_examples_and_keeps_to_it_on_others() -> None:
    method = SCRUB(temperature=3.0, alpha=0.3, gamma=0.6)
    model = known().eval()
    descent = Distillation(method, model, task())
    descent.prepare()
    inputs, labels = examples(30, 1).inputs[:4], examples(30, 1).labels[:4]
    logits = model(inputs).detach() + torch.tensor([[0.5, 0.0, -0.5]])
    distance = 9 * divergence(model(inputs), logits, 3.0)
    left, kept = (descent.loss(inputs, logits, labels, torch.full((4,), forgotten)) for forgotten in (True, False))
    assert left.item() == pytest.approx(-distance.mean().item())
    wanted = 0.6 * F.cross_entropy(logits, labels) + 0.3 * distance.mean()
    assert kept.item() == pytest.approx(wanted.item())
    far = (logits * -100).requires_grad_()
    (gradient,) = torch.autograd.grad(descent.loss(inputs, far, labels, torch.full((4,), True)), far)
    assert torch.equal(gradient, torch.zeros_like(far))  # beyond log(classes) the ascent has ended


@pytest.mark.parametrize("ascent_epochs", [0, 2, 3])
def test_scrub_ascends_in_as_many_epochs_as_asked_and_leaves_its_teacher_as_it_is(ascent_epochs: int) -> None:
    model = known()
    original = weights(model)
    method = SCRUB(epochs=3, ascent_epochs=ascent_epochs, batch_size=30, forget_batch_size=15, lr=0.05)
    descent = Distillation(method, model, task())
    kinds: list[list[bool]] = [[] for _ in range(3)]
    loss = descent.loss

    def spy(inputs: Any, logits: torch.Tensor, labels: torch.Tensor, forgotten: torch.Tensor) -> torch.Tensor:
        assert bool(forgotten.all()) or not bool(forgotten.any())
        kinds[descent.epoch].append(bool(forgotten.all()))
        return loss(inputs, logits, labels, forgotten)

    descent.loss = spy  # type: ignore[method-assign]
    descent.run()
    assert kinds == [[True] * 2 * (epoch < ascent_epochs) + [False] * 2 for epoch in range(3)]
    assert all(torch.equal(value, original[name]) for name, value in weights(descent.teacher).items())
    assert not descent.teacher.training
    assert not all(torch.equal(value, original[name]) for name, value in weights(model).items())


def error(model: nn.Module, part: Examples) -> float:
    with torch.no_grad():
        return (model(part.inputs).argmax(1) != part.labels).double().mean().item()


def test_scrub_rewinds_to_the_epoch_with_the_last_held_out_error() -> None:
    model = known()
    forget = examples(30, 1).subset(np.arange(0, 30, 3))  # of class 0
    given = task(forget=forget, selection=examples(60, 3))
    held_out = given.selection.subset((given.selection.labels == 0).nonzero()[:, 0])  # type: ignore[union-attr]
    options = {"ascent_epochs": 4, "lr": 0.05, "batch_size": 30, "forget_batch_size": 5, "schedule": "constant"}

    def run(epochs: int, **more: Any) -> Any:
        method = SCRUB(epochs=epochs, **{**options, "ascent_epochs": min(4, epochs)}, **more)
        return method.unlearn(copy.deepcopy(model), given)

    ends = [run(epochs).network for epochs in range(1, 7)]
    errors, wanted = [error(end, forget) for end in ends], error(ends[-1], held_out)
    assert len(set(errors)) > 1
    rewound = run(6, rewind=True)
    epochs = rewound.trace["epochs"]
    assert epochs["utility"] == pytest.approx([-abs(each - wanted) for each in errors])
    assert epochs["chosen"] == np.argmin([abs(each - wanted) for each in errors])
    assert same(rewound.network, ends[epochs["chosen"]])


def test_scrub_rewinds_the_same_after_a_kill(tmp_path: Path) -> None:
    class Killing(Checkpoint):
        left = 7

        def step(self, state: Any) -> None:
            self.left -= 1
            if self.left == 0:
                self.write(state())
                raise KeyboardInterrupt

    def run(**changes: Any) -> Any:
        method = SCRUB(epochs=3, rewind=True, batch_size=30, forget_batch_size=30, lr=0.05)
        return method.unlearn(network(), task(selection=examples(60, 3), **changes))

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=Killing(tmp_path / "state", 1e9))
    again = run(checkpoint=Checkpoint(tmp_path / "state", 1e9))
    assert same(whole.network, again.network)
    assert whole.trace == again.trace


def test_scrub_refuses_two_ways_to_choose_and_a_rewinding_without_a_selection_set() -> None:
    with pytest.raises(OptionError, match="rewind=true and keep_epoch=best both choose the epoch"):
        SCRUB(rewind=True, keep_epoch="best")
    labels = {"retain": np.arange(9) % 3, "forget": np.zeros(5, int), "audit": np.zeros(5, int)}
    with pytest.raises(UserError, match="rewind=true needs a selection set"):
        SCRUB(rewind=True).check(labels)


def test_what_the_bad_teacher_teaches_is_that_by_hand() -> None:
    good, bad, student = torch.tensor([[0.0, 0.0]] * 2), torch.tensor([[2 * math.log(3), 0.0]] * 2), torch.zeros(2, 2)
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    forgotten = torch.tensor([True, False])
    assert taught(good, bad, student, forgotten, 2.0).item() == pytest.approx(wanted / 2)
    assert taught(good, bad, student, ~forgotten & False, 2.0).item() == pytest.approx(0)


def test_the_good_teacher_is_the_original_and_the_bad_one_is_a_fresh_network() -> None:
    model = known()
    original = weights(model)
    descent = TwoTeachers(BadTeacher(lr=0.01, epochs=2), model, task())
    descent.run()
    assert all(torch.equal(value, original[name]) for name, value in weights(descent.good).items())
    bad = weights(descent.bad)
    assert not any(torch.equal(bad[name], original[name]) for name in ("0.weight", "0.bias", "5.weight", "5.bias"))
    assert torch.equal(bad["1.running_mean"], torch.zeros(4))
    assert bad["0.weight"].abs().max() <= 1 / 3  # torch's initialisation: uniform up to 1 / sqrt(9 inputs)
    assert not same(model, descent.good)


class Own(nn.Module):
    """A layer that cannot be reinitialised."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def test_a_layer_that_cannot_be_initialised_again_is_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"bad_teacher initialises layers again, .* reset_parameters; Own has weights"):
        BadTeacher().run(nn.Sequential(network(), Own()), task())


def test_a_sample_of_the_retain_set_is_drawn_once_with_all_forget_examples() -> None:
    rows = sampled_rows(task(), 0.3, "a stream")
    assert torch.equal(rows, sampled_rows(task(), 0.3, "a stream"))
    assert rows[18:].tolist() == list(range(60, 90))
    assert len(rows[:18].unique()) == 18
    assert rows[:18].max() < 60
    assert len(sampled_rows(task(), 1e-9, "a stream")) == 31


def test_lotus_temperature_is_that_by_hand() -> None:
    assert temperature(0.1, 8.0) == pytest.approx(2.2255409)
    assert temperature(0.0, 8.0) == 1.0


def smoothing(**changes: Any) -> Smoothing:
    descent = Smoothing(LoTUS(), known(), task(**changes))
    descent.prepare()
    return descent


def test_lotus_begins_at_the_gap_between_forget_and_held_out_accuracy() -> None:
    model, given = known().eval(), task()
    descent = smoothing()
    assert descent.goes_on()
    assert descent.gap.value == pytest.approx(error(model, given.audit) - error(model, given.forget))
    descent.network[-1].weight.data.zero_()  # type: ignore[index, union-attr, operator]
    assert descent.goes_on()  # within an epoch it is not measured again


def test_lotus_ends_where_forget_examples_are_known_no_better_than_held_out_ones() -> None:
    wrong = replace(examples(30, 1), labels=(examples(30, 1).labels + 1) % 3)
    model = known()
    assert same(LoTUS(lr=0.1).unlearn(copy.deepcopy(model), task(forget=wrong)).network, model)
    whole = wrong.labels.new_full((30,), 3)  # a class that is not retained: its accuracy is to reach 0
    retain = replace(examples(60, 0), labels=examples(60, 0).labels % 2)
    descent = smoothing(forget=replace(examples(30, 1), labels=whole), retain=retain)
    assert descent.wanted == 0


def test_lotus_targets_are_certain_for_retain_examples_and_gumbel_softmax_for_forget_examples() -> None:
    descent = smoothing()
    descent.gap.value = 0.05
    inputs, logits = examples(30, 1).inputs[:6], torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    teacher = descent.teacher(inputs)
    labels = examples(30, 1).labels[:6]
    kept = descent.loss(inputs, logits, labels, torch.full((6,), False))
    assert kept.item() == pytest.approx(F.cross_entropy(logits, teacher.argmax(1)).item())
    generator = torch_stream(CPU.seed, "lotus/noise")
    torch.rand(6, 3, generator=generator)  # of the first batch
    noise = -(-torch.rand(6, 3, generator=generator).log()).log()
    target = ((teacher + noise) / math.exp(8 * 0.05)).softmax(1)
    left = descent.loss(inputs, logits, labels, torch.full((6,), True))
    assert left.item() == pytest.approx(-(target * logits.log_softmax(1)).sum(1).mean().item(), rel=1e-5)


def test_a_number_of_an_epoch_is_measured_once_also_where_it_is_resumed() -> None:
    first, asked = AtEpoch(), iter([1.0, 2.0])
    assert [first.of(epoch, lambda: next(asked)) for epoch in (0, 0, 1)] == [1.0, 1.0, 2.0]
    state: Mapping[str, Any] = first.state_dict()
    resumed = AtEpoch()
    resumed.load_state_dict(dict(state))
    assert resumed.of(1, lambda: math.nan) == 2.0
