"""Forget sets that models choose, from the data to the metrics."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.data.digits import Digits
from advunlearn.data.splits import Splits
from advunlearn.options import ConfigError, UserError
from advunlearn.shadows.memorization import memorization
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.data import split
from advunlearn.stages.estimate import before_a_run
from advunlearn.stages.memorization import known_splits, measured
from advunlearn.stages.original import splits_of
from advunlearn.storage.store import Store

QUICK = ["dataset.train_size=120", "model.hidden=16", "optimizer.epochs=10", "unlearner=none", "attack=threshold"]
QUICK += ["device=cpu", "threads=1"]


def run(folder: str, *words: str) -> Any:
    return advunlearn.run([*QUICK, *words], folder)


def with_wrong_labels(count: int) -> np.ndarray:
    """Write digits of which so many of the first 200, one in ten of a class, have wrong labels; return their rows."""
    pool = Digits().load()
    wrong = np.concatenate([np.flatnonzero(pool.labels[:200] == each)[: count // 10] for each in range(10)])
    labels = pool.labels[:200].copy()
    labels[wrong] = (labels[wrong] + 1) % 10
    np.savez(
        "mine.npz",
        images=pool.inputs[:200, :, :, 0],
        labels=labels,
        test_images=pool.inputs[200:, :, :, 0],
        test_labels=pool.labels[200:],
    )
    return np.sort(wrong)


@pytest.mark.parametrize("models", [16, 0], ids=["models", "proxy"])
def test_memorized_finds_most_of_the_planted_wrong_labels(workplace: Path, models: int) -> None:
    wrong = with_wrong_labels(20)
    words = [
        "dataset=npz",
        "dataset.path=mine.npz",
        "model=mlp",
        "optimizer=adamw",
        "optimizer.epochs=80",
        "device=cpu",
    ]
    words += ["forget=memorized", "forget.fraction=0.1", f"forget.models={models}"]
    experiment = experiment_from(words)
    experiment, trainer, splits = split(experiment, experiment.dataset.load())
    assert known_splits(experiment, trainer, splits) is splits  # no model is in the store
    measured(experiment, trainer, splits.train)
    forget = known_splits(experiment, trainer, splits).forget
    assert len(forget) == 20
    assert np.isin(wrong, forget).mean() > 0.6  # by chance: 0.1


def test_memorized_is_memorized_more_than_random_and_unmemorized_less(workplace: Path) -> None:
    words = ["dataset.train_size=120", "optimizer.epochs=60", "device=cpu"]
    experiment = experiment_from([*words, "forget=memorized"])
    experiment, trainer, splits = split(experiment, experiment.dataset.load())
    difficulty = measured(experiment, trainer, splits.train).difficulty
    judge = ShadowSet(trainer, ShadowOptions(16), splits.train, splits.train, "judge").observe(splits.train)
    found = memorization(judge, trainer.pool.labels[splits.train])

    def mean(name: str) -> float:
        forget = splits_of(experiment_from([*words, f"forget={name}"]), trainer.pool, difficulty).forget
        return float(found[np.isin(splits.train, forget)].mean())

    assert mean("memorized") > mean("random") + 0.1
    assert mean("unmemorized") < mean("random")


def test_a_run_and_its_repetition_forget_the_same_rows_and_the_folder_holds_them(workplace: Path) -> None:
    first = run("first", "forget=memorized", "forget.models=2")
    assert first.metrics["memorization"]["chosen_by_it"]
    before = Splits.load(Path("first/splits.npz"))
    assert before.forget.tolist() == first.splits.forget.tolist()
    stand_in = split(experiment_from([*QUICK, "forget=memorized", "forget.models=2"]), Digits().load())[2]
    assert before.forget.tolist() != stand_in.forget.tolist()
    again = run("again", "forget=memorized", "forget.models=2")
    assert Splits.load(Path("again/splits.npz")).forget.tolist() == before.forget.tolist()
    assert again.metrics["models"] == first.metrics["models"]


@pytest.mark.parametrize(("models", "name", "count"), [(4, "memorization models", 4), (0, "memorization proxy", 1)])
def test_the_estimate_lists_the_models_and_finds_them_in_the_store(
    workplace: Path, models: int, name: str, count: int
) -> None:
    words = [*QUICK, "forget=memorized", f"forget.models={models}", "attack.stacked=false"]
    (line,) = (line for line in before_a_run(experiment_from(words)).estimate().lines if line.name == name)
    assert (line.wanted, line.held) == (count, 0)
    run("run", *words[len(QUICK) :])
    estimator = before_a_run(experiment_from(words))
    missing = {line.name: line.missing for line in estimator.estimate().lines}
    assert (missing[name], missing["retrained"], missing["attacks, report"]) == (0, 0, 0)


def test_attacks_share_no_model_with_the_choice_and_tell_its_memorization(workplace: Path) -> None:
    found = run("run", "forget=memorized", "forget.models=2", "attack=lira", "attack.shadows=4").metrics["memorization"]
    assert (found["examples"], found["models"], found["chosen_by_it"]) == (24, 4, False)
    streams = [json.dumps(key["stream"]) for kind in ("memorization", "shadow") for key in Store().keys(kind)]
    assert len(set(streams)) == len(streams) >= 6


def test_mislabelled_changes_the_labels_of_the_forget_set_and_no_others(workplace: Path) -> None:
    pool = Digits().load()
    experiment = experiment_from([*QUICK, "forget=mislabelled", "forget.fraction=0.1"])
    (_, first, splits), (_, again, _) = (split(experiment, pool) for _ in range(2))
    assert np.flatnonzero(first.pool.labels != pool.labels).tolist() == splits.forget.tolist()
    assert len(splits.forget) == 12
    assert (first.pool.labels == again.pool.labels).all()
    assert (first.pool.true_labels == pool.labels).all()
    assert first.pool.checksum != pool.checksum
    other = split(experiment_from([*QUICK, "forget=mislabelled", "forget.fraction=0.1", "seed=1"]), pool)[1]
    assert (first.pool.labels != other.pool.labels).any()


def test_a_run_tells_how_each_model_classifies_mislabelled_examples(workplace: Path) -> None:
    result = run("run", "forget=mislabelled", "forget.fraction=0.1", "optimizer.epochs=80", "model.hidden=256")
    found = result.metrics["mislabelled"]
    assert found["original"]["wrong_label"] > 0.5 > found["retrained"]["wrong_label"]
    assert found["original"]["true_label"] < 0.5 < found["retrained"]["true_label"]
    for name, shares in found.items():
        assert shares["wrong_label"] == result.metrics["models"][name]["accuracy"]["forget"]
        assert shares["wrong_label"] + shares["true_label"] <= 1
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "wrong label" in page
    assert "true label" in page


def test_a_later_request_cannot_follow_wrong_labels_nor_add_them(workplace: Path) -> None:
    run("first", "forget=mislabelled")
    with pytest.raises(ConfigError, match="forget changes labels before the original is trained"):
        experiment_from([*QUICK, "forget=mislabelled", "original.run=first"])
    with pytest.raises(UserError, match="forget=mislabelled changed its labels"):
        before_a_run(experiment_from([*QUICK, "original.run=first"]))


def test_memorized_serves_the_next_request(workplace: Path) -> None:
    first = run("first", "forget.fraction=0.1")
    second = run("second", "forget=memorized", "forget.fraction=0.1", "forget.models=2", "original.run=first")
    assert set(first.splits.forget) < set(second.splits.forget)
    assert second.metrics["original"]["new"] == len(second.splits.forget) - len(first.splits.forget)


def test_the_mean_memorization_is_in_the_log_and_in_the_report(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="advunlearn")
    result = run("run", "forget=memorized", "forget.models=2")
    words = f"{result.metrics['memorization']['mean']:.3f} (24 examples, 2 models; these models chose the forget set"
    assert words in caplog.text
    assert words in Path("run/report.html").read_text(encoding="utf-8")
