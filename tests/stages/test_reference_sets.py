"""On which rows reference models are trained, for a run and for shadow originals."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import advunlearn
from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.stages.original import original
from advunlearn.stages.shadows import original_references, original_set
from advunlearn.stages.unlearn import make_task, reference_set, run_unlearner
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer

World = tuple[Experiment, Trainer, Splits]


def world(folder: Path, *overrides: str) -> World:
    experiment = experiment_from(["auditor=calibrated", "auditor.references=8", *overrides])
    with Manifest(folder / "run", {"call": "test"}) as manifest:
        return prepare(experiment, manifest)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))


def test_references_are_as_large_as_the_retain_set_and_see_every_class(tmp_path: Path) -> None:
    experiment, trainer, splits = world(tmp_path)
    references = reference_set(experiment, trainer, splits, splits.forget)
    assert references is not None
    assert len(references.rows(0)) == len(splits.retain) == 200
    assert set(splits.train) < set(references.pool)
    assert set(references.pool) <= set(splits.train) | set(splits.audit)
    outputs = [np.isin(splits.forget, references.rows(index)).mean() for index in range(8)]
    assert 0 < np.mean(outputs) < 1


def test_references_know_nothing_of_a_class_that_is_forgotten_as_a_whole(tmp_path: Path) -> None:
    experiment, trainer, splits = world(tmp_path, "forget=class")
    references = reference_set(experiment, trainer, splits, splits.forget)
    assert references is not None
    labels = trainer.pool.labels
    (forgotten,) = np.unique(labels[splits.forget])
    assert forgotten not in labels[references.pool]
    assert len(references.rows(0)) == len(splits.retain)


@pytest.mark.parametrize("attack", ["threshold", "ulira"])
def test_too_few_references_are_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], attack: str
) -> None:
    """Most of the examples that the models are drawn from are kept: each leaves out few, so that many are needed."""
    words = ["dataset.train_size=600", "forget.fraction=0.05", f"attack={attack}", "auditor=calibrated"]
    with pytest.raises(UserError, match=r"leave out some of the \d+ examples") as raised:
        advunlearn.run([*words, "auditor.references=4"])
    (enough,) = re.findall(r"try auditor.references=(\d+)", str(raised.value))
    assert not any(entry.kind in ("model", "reference") for entry in Store().entries())
    assert main(["check", *words, "auditor.references=4"]) != 0
    assert f"try auditor.references={enough}" in capsys.readouterr().err
    assert main(["check", *words, f"auditor.references={enough}"]) == 0
    assert main(["check", *words, f"auditor.references={int(enough) - 2}"]) != 0


def test_references_of_shadow_originals_are_drawn_from_the_originals_rows(tmp_path: Path) -> None:
    experiment, trainer, splits = world(tmp_path, "attack=ulira")
    references = original_references(experiment, trainer, splits)
    assert references is not None
    originals = original_set(experiment, trainer, splits)
    trained = np.concatenate([np.concatenate(originals.rows.parts(index)) for index in range(20)])
    assert set(trained) == set(references.pool)
    assert len(references.rows(0)) == len(originals.rows.parts(0)[0])
    assert set(references.observed) >= set(splits.test) | set(splits.audit)


def test_references_that_are_trained_on_halves_are_the_same_for_both(tmp_path: Path) -> None:
    experiment, trainer, splits = world(tmp_path, "auditor=likelihood_ratio", "attack=ulira")
    references = original_references(experiment, trainer, splits)
    own = reference_set(experiment, trainer, splits, splits.test)
    assert references is not None
    assert own is not None
    assert references.key(1) == own.key(1)
    assert len(references.rows(0)) == 250


def test_the_calibrated_game_is_the_same_again_and_ends_nearer_to_its_targets(tmp_path: Path) -> None:
    experiment, trainer, splits = world(tmp_path, "unlearner.epochs=2", "optimizer.epochs=8", "unlearner.lr=0.03")
    first = original(experiment, trainer, splits)
    made = []
    for alpha in (3.0, 3.0, 0.0):
        game = replace(experiment.unlearner, alpha=alpha)
        references = reference_set(experiment, trainer, splits, splits.forget)
        task = make_task(trainer, splits, splits.retain, splits.forget, references)
        made.append(run_unlearner(replace(experiment, unlearner=game), copy.deepcopy(first[0]), task))
    weights = [torch.cat([each.flatten() for each in unlearned.network.parameters()]) for unlearned in made]
    assert torch.equal(weights[0], weights[1])
    played, _, twin = (unlearned.trace["utility"] for unlearned in made)
    assert played[-1] < twin[-1]
