"""Stage `relearning`: a planted fake comes back, a retrained model does not, and an interruption changes no number."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.evaluation.further_metrics import Relearned, Relearning
from advunlearn.options import ConfigError
from advunlearn.report.run.further import widest_gap
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import split
from advunlearn.stages.relearning import Curve, of_model, points, relearn, relearning_trainer
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact

WORDS = ["attack=threshold", "unlearner=none", "device=cpu", "threads=1"]


def test_a_model_is_measured_at_powers_of_two_and_at_the_end() -> None:
    assert points(1) == [0, 1]
    assert points(8) == [0, 1, 2, 4, 8]
    assert points(40) == [0, 1, 2, 4, 8, 16, 32, 40]


def test_a_curve_goes_on_from_its_state() -> None:
    value = iter(range(100))
    curve = Curve(lambda: {"x": next(value)}, [0, 2, 3])
    curve.step()
    curve.step()
    other = Curve(lambda: {"x": 50.0}, [0, 2, 3])
    other.load_state_dict(curve.state_dict())
    other.step()
    assert other.found == {"step": [0, 2, 3], "x": [0, 1, 50]}


def setting(*words: str) -> tuple[Any, Any, Any]:
    experiment = experiment_from([*WORDS, *words])
    return split(experiment, experiment.dataset.load())


def three(trainer: Any, splits: Any, change: Callable[[nn.Module, nn.Module], nn.Module]) -> Models:
    """Return the original, the retrained model and, as the unlearned one, what `change` makes of both."""
    networks, artefacts = {}, {}
    for name, rows in (("original", splits.train), ("retrained", splits.retain)):
        networks[name], artefacts[name] = trainer.train(rows, name)
    networks["unlearned"] = change(networks["original"], networks["retrained"])
    artefacts["unlearned"] = Artefact({}, {}, {}, digest="unlearned", content="0")
    return Models(networks, artefacts, None)


def hidden(trainer: Any, splits: Any, original: nn.Module, retrained: nn.Module) -> nn.Module:
    """Return a fake: the original, whose last layer alone ascends until the forget accuracy is the retrained one's."""
    forget, fake = trainer.examples.subset(splits.forget), copy.deepcopy(original)
    inputs, labels = forget.prepared(), forget.labels

    def right(model: nn.Module) -> float:
        return (model(inputs).argmax(1) == labels).float().mean().item()

    head = [layer for layer in fake.modules() if isinstance(layer, nn.Linear)][-1]
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02)
    while right(fake) > right(retrained):
        optimizer.zero_grad()
        (-F.cross_entropy(fake(inputs), labels)).backward()
        optimizer.step()
    return fake


def test_relearning_tells_a_planted_fake_from_the_retrained_model(workplace: Path) -> None:
    experiment, trainer, splits = setting("forget=outliers", "audits.relearning=10", "seed=1")
    models = three(trainer, splits, lambda original, retrained: hidden(trainer, splits, original, retrained))
    with Manifest(workplace / "run") as manifest:
        found = relearn(experiment, trainer, splits, models, manifest)
        assert found == relearn(experiment, trainer, splits, Models({}, models.artefacts, None), manifest)  # stored
    assert found is not None
    fake, retrained = found["models"]["unlearned"], found["models"]["retrained"]
    assert abs(fake["forget"][0] - retrained["forget"][0]) <= 1 / 50  # before, it looks as if it had forgotten
    assert abs(retrained["forget"][-1] - retrained["forget"][0]) < 0.1  # retain examples teach it nothing of these
    assert fake["forget_low"][-1] > retrained["forget_high"][-1]
    assert fake["auc"][-1] > retrained["auc_high"][-1]
    assert widest_gap(found, "unlearned", "forget") > 0.25
    assert widest_gap(found, "retrained", "forget") == 0
    assert {curve["step"][-1] for curve in found["models"].values()} == {40}


def test_the_same_model_has_the_same_curve_and_a_longer_one_begins_with_it(workplace: Path) -> None:
    words = ["optimizer.epochs=5", "dataset.train_size=120"]
    curves = {}
    for epochs in (1, 2):
        experiment, trainer, splits = setting(*words, f"audits.relearning={epochs}")
        models = three(trainer, splits, lambda _, retrained: copy.deepcopy(retrained))
        with Manifest(workplace / str(epochs)) as manifest:
            found = relearn(experiment, trainer, splits, models, manifest)
        assert found is not None
        assert found["models"]["unlearned"] == found["models"]["retrained"]
        curves[epochs] = found["models"]["original"]
    assert curves[2]["step"] == [0, 1, 2, 4]
    for name in Relearned.__annotations__:
        assert curves[2][name][: len(curves[1][name])] == curves[1][name]  # type: ignore[literal-required]


def test_an_interrupted_relearning_ends_with_the_same_curve(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["optimizer.epochs=5", "dataset.train_size=120", "audits.relearning=3"]
    experiment, trainer, splits = setting(*words, "checkpoint_seconds=0")
    trainer = relearning_trainer(experiment, trainer)
    models = three(trainer, splits, lambda original, _: original)
    expected = of_model(trainer, splits, models, "original").record["curve"]
    models.artefacts["original"] = replace(models.artefacts["original"], digest="another key")
    step, measured = Curve.step, 0

    def killed(curve: Curve) -> None:
        if curve.taken == 4:
            raise KeyboardInterrupt
        step(curve)

    monkeypatch.setattr(Curve, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        of_model(trainer, splits, models, "original")

    def counted(curve: Curve) -> None:
        nonlocal measured
        measured += 1
        step(curve)

    monkeypatch.setattr(Curve, "step", counted)
    assert of_model(trainer, splits, models, "original").record["curve"] == expected
    assert measured == 1 + 2  # steps 5 and 6, and the first measurement, which the state replaces


def test_a_run_has_the_curve_and_its_pictures_only_if_asked(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *given: drawn.append(given[-1]) or {})
    words = [*WORDS, "optimizer.epochs=3", "dataset.train_size=120"]
    plain = advunlearn.run(words, "plain").metrics
    asked = advunlearn.run([*words, "audits.relearning=2", "audits.relearning_lr=0.01"], "asked")
    found = asked.metrics.pop("relearning")
    assert "relearning" not in plain
    assert {**asked.metrics, "seconds": 0} == {**plain, "seconds": 0}
    assert drawn == [None, found]
    assert set(found) == set(Relearning.__annotations__)
    assert all(set(curve) == set(Relearned.__annotations__) for curve in found["models"].values())
    assert (found["epochs"], found["lr"]) == (2, 0.01)


def test_negative_epochs_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^audits\.relearning must be at least 0, got -1 "):
        experiment_from([*WORDS, "audits.relearning=-1"])


def test_the_picture_shows_both_curves_of_three_models() -> None:
    from advunlearn.report.run.pictures import relearning_figure

    values = [0.5, 0.6, 0.7]
    curve: Any = dict.fromkeys(Relearned.__annotations__, values) | {"step": [0, 1, 2]}
    found: Any = {"models": dict.fromkeys(("original", "retrained", "unlearned"), curve)}
    for axes in relearning_figure(found).axes:
        assert [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "."] == [values] * 3


def test_relearning_is_a_fine_tuning_at_a_constant_rate(workplace: Path) -> None:
    experiment, trainer, _ = setting("audits.relearning=2", "optimizer.warmup=0.1")
    own = relearning_trainer(experiment, trainer).optimizer
    expected = dataclasses.replace(trainer.optimizer, epochs=2, schedule="constant", warmup=0.0)
    assert own == expected
    assert np.isclose(own.factor(5, 8), 1)
