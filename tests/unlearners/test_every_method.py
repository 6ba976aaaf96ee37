"""What holds for every shipped unlearner, on networks with and without BatchNorm."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_class
from torch import nn

from advunlearn.data.examples import Examples
from advunlearn.options import UserError
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.storage.paths import config_folder
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.sg import SG
from advunlearn.unlearners.unlearner import PARTS, Task, Unlearner, Withheld
from tests.unlearners.tasks import examples, known, network, same, task, weights

CLASSES: dict[str, Any] = {
    path.stem: get_class(yaml.safe_load(path.read_text(encoding="utf-8"))["_target_"])
    for path in sorted((config_folder() / "unlearner").glob("*.yaml"))
}
BY_STEPS = [name for name, cls in CLASSES.items() if issubclass(cls, GradientUnlearner)]
# Options with which a method has no strength, and does not change the weights.
NO_OPS: dict[str, dict[str, Any]] = {
    "none": {},
    "fisher": {"alpha": 0.0},
    "influence": {"scale": 0.0},
    "ssd": {"selection": 1e9},
    "salun": {"share": 0.0},
    "scrub": {"ascent_epochs": 0, "alpha": 0.0, "gamma": 0.0, "weight_decay": 0.0},
}


def without_batchnorm(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))


# Parts that a method reads only by training on them, or by models that were trained on them.
BY_TRAINING = {
    "retrain": {"retain"},
    "sisa": {"retain", "forget"},
    "rewind": {"forget"},
    "reference_distillation": {"audit"},
}
# Methods with steps in evaluation mode.
IN_EVALUATION = ("jit", "mu_mis")
NETWORKS = {"batchnorm": network, "none": without_batchnorm}
READINGS = [
    (name, options)
    for options in ({}, {"keep_epoch": "best"}, {"rewind": True})
    for name, cls in CLASSES.items()
    if options.keys() <= {field.name for field in dataclasses.fields(cls)}
]


def quick(name: str, **options: Any) -> Unlearner:
    """Return a method with two epochs of a few steps, and everything else at its default."""
    cls = CLASSES[name]
    few = {"epochs": 2, "batch_size": 20, "audit_size": 10}
    known = {field.name for field in dataclasses.fields(cls)}
    made: Unlearner = cls(**{**{key: value for key, value in few.items() if key in known}, **options})
    return made


def whole_task(**changes: Any) -> Task:
    """Return a task with everything that a method may ask for."""
    given = {"selection": examples(45, 3), "retrain": lambda stream: network(7).eval()}
    return task(**{**given, "training": Repetition(), "references": (outputs(30), outputs(45)), **changes})


@dataclass(frozen=True)
class Repetition:
    """A training that was short: its earlier state, and the model of each shard, is a given network."""

    build: Callable[[], nn.Module] = known

    def earlier(self, share: float) -> nn.Module:
        return self.build().eval()

    def shards(self, count: int) -> Iterator[nn.Module]:
        return (self.build().eval() for _ in range(count))


def outputs(count: int) -> ShadowOutputs:
    """Return those of two reference models, each example IN for one of them."""
    logits = np.random.default_rng(0).normal(size=(2, count, 1, 3)).astype(np.float32)
    inside = np.arange(count) % 2 == 0
    return ShadowOutputs(logits, np.stack([inside, ~inside]), logits[:, :0])


@pytest.fixture(params=NETWORKS)
def build(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    return functools.partial(known, NETWORKS[request.param])


class Killed(Exception):
    """Stands for a kill of the process."""


class Killing(Checkpoint):
    """Keep the state after a number of steps, and end the work there; count the steps until then."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, seconds=1e9)
        self.at, self.count = at, 0

    def step(self, state: Callable[[], Any]) -> None:
        self.count += 1
        if self.count == self.at:
            self.write(state())
            raise Killed


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_seed_gives_the_same_bits(name: str, build: Callable[[], nn.Module]) -> None:
    ends = [quick(name).run(build(), whole_task(training=Repetition(build))) for _ in range(2)]
    assert same(ends[0].network, ends[1].network)
    assert ends[0].trace == ends[1].trace


@pytest.mark.parametrize("name", CLASSES)
def test_a_killed_unlearning_goes_on_to_the_same_bits(
    name: str, build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    given = whole_task(training=Repetition(build))
    unbroken = quick(name).run(build(), given)
    kills = 0
    for at in (1, 2):  # in the first epoch, and in or at its end
        try:
            quick(name).run(build(), replace(given, checkpoint=Killing(tmp_path / "state", at)))
        except Killed:
            kills += 1
    resumed = quick(name).run(build(), replace(given, checkpoint=Checkpoint(tmp_path / "state", 1e9)))
    assert same(unbroken.network, resumed.network)
    assert unbroken.trace == resumed.trace
    assert kills == 2 or name not in BY_STEPS


@pytest.mark.parametrize("name", CLASSES)
def test_modes_gradients_and_data_are_left_as_they_were(name: str, build: Callable[[], nn.Module]) -> None:
    given = whole_task(training=Repetition(build))
    data = {part: getattr(given, part) for part in PARTS}
    before = {part: (each.inputs.clone(), each.labels.clone()) for part, each in data.items()}
    model = build().eval()
    model[0].bias.requires_grad_(False)  # type: ignore[index, union-attr]
    fixed = model[0].bias.clone()  # type: ignore[index, union-attr, operator]
    unlearned = quick(name).run(model, given).network
    assert not any(module.training for module in unlearned.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unlearned.modules())
    if unlearned is model:
        needed = {key: weight.requires_grad for key, weight in model.named_parameters()}
        assert needed == {key: key != "0.bias" for key in needed}
        assert torch.equal(model[0].bias, fixed)  # type: ignore[index, arg-type]
    for part, (inputs, labels) in before.items():
        assert torch.equal(data[part].inputs, inputs)
        assert torch.equal(data[part].labels, labels)


@pytest.mark.parametrize("name", CLASSES)
def test_an_empty_or_a_whole_forget_set_is_refused(name: str) -> None:
    nothing = Examples(torch.empty(0, 1, 8, 8), torch.empty(0, dtype=torch.int64))
    with pytest.raises(UserError, match="the forget set is empty"):
        quick(name).run(known(), whole_task(forget=nothing))
    with pytest.raises(UserError, match="the forget set is the whole training set"):
        quick(name).run(known(), whole_task(retain=nothing))


@pytest.mark.parametrize(("name", "options"), READINGS)
def test_a_method_reads_what_it_declares_and_nothing_else(name: str, options: dict[str, Any]) -> None:
    method = quick(name, **options)
    reads = method.parts_read()
    assert list(reads) == [part for part in PARTS if part in reads]
    method.run(known(), whole_task())  # which withholds the others
    for part in set(reads) - BY_TRAINING.get(name, set()):
        with pytest.raises(UserError, match=f"does not read the {part} set"):
            method.unlearn(known(), replace(whole_task(), **{part: Withheld("it", part)}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "options"), NO_OPS.items())
def test_a_zero_strength_moves_no_weight(name: str, options: dict[str, Any], build: Callable[[], nn.Module]) -> None:
    after = dict(quick(name, **options).run(build(), whole_task()).network.named_parameters())
    assert all(torch.equal(weight, after[key]) for key, weight in build().named_parameters())


@pytest.mark.parametrize("name", BY_STEPS)
def test_a_method_by_steps_is_the_games_base_to_the_bit(name: str) -> None:
    steps = {"epochs": 2, "lr": 0.02, "batch_size": 20, "weight_decay": 0.01, "momentum": 0.5}
    alone = CLASSES[name](schedule="constant", **steps).run(known(), whole_task())
    game = SG(base=name, alpha=0, audit_size=10, audit_every=2, **steps).run(known(), whole_task())
    assert same(alone.network, game.network)
    played = SG(base=name, alpha=1, audit_size=10, audit_every=2, **steps).run(known(), whole_task())
    assert not same(game.network, played.network)


@pytest.mark.parametrize("name", BY_STEPS)
def test_the_steps_are_as_many_and_as_large_as_estimated(name: str, tmp_path: Path) -> None:
    model, counter = known(), Killing(tmp_path, at=-1)
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None)
    found = quick(name).steps(whole_task())
    if found is None:
        assert name == "rewind"  # its earlier epochs take an unknown time
        return
    quick(name).run(model, whole_task(checkpoint=counter))
    assert counter.count == sum(each.count for each in found)
    if name in IN_EVALUATION:
        return
    assert counter.count == len(sizes)
    assert max(sizes) == max(each.examples for each in found)


@pytest.mark.parametrize("name", BY_STEPS)
def test_another_seed_gives_other_steps(name: str) -> None:
    ends = [quick(name).run(known(), whole_task(settings=Settings(seed=s, device="cpu"))).network for s in (1, 2)]
    assert not same(*ends)
    assert all(weight.isfinite().all() for weight in weights(ends[0]).values())
