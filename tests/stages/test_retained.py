"""Stage `retained`: which attacks it repeats, on which examples, and that it finds who is exposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.attacks.attack import Attack
from advunlearn.config.compose import experiment_from
from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import Retained
from advunlearn.evaluation.names import MODELS
from advunlearn.report.run.table import records
from advunlearn.report.summary.column_sets import retained_columns
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.runs import summarise
from advunlearn.stages import retained as module
from advunlearn.stages.retained import retained_rows, usable


def test_retained_examples_of_every_class_are_compared_with_test_examples_of_it() -> None:
    labels = np.arange(900) % 3
    splits = Splits(np.arange(300), np.arange(300, 330), np.arange(0), np.arange(0), np.arange(600, 900))
    rows, members = retained_rows(splits, labels, seed=0)
    assert np.isin(rows[members], splits.retain).all()
    assert np.isin(rows[~members], splits.test).all()
    shares = [np.bincount(labels[rows[side]]) / side.sum() for side in (members, ~members)]
    np.testing.assert_allclose(*shares, atol=0.01)
    assert len(np.unique(rows)) == len(rows)


def test_a_large_retain_set_is_sampled_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EXAMPLES", 30)
    labels = np.zeros(900, np.int64)
    splits = Splits(np.arange(300), np.arange(300, 330), np.arange(0), np.arange(0), np.arange(600, 900))
    rows, members = retained_rows(splits, labels, seed=0)
    assert members.sum() == 30
    assert rows[members].max() > 100
    np.testing.assert_array_equal(rows, retained_rows(splits, labels, seed=0)[0])


def test_attacks_that_need_other_models_or_the_retain_set_are_left_out() -> None:
    names = "threshold,classifier,mia_efficacy,gradient_norm,population,lira,rmia,ulira,weight_change"
    attacks: dict[str, Attack] = experiment_from([f"attack=[{names}]"]).attacks
    members = np.arange(200) < 100
    expected = ["threshold", "classifier", "gradient_norm", "population", "lira", "rmia"]
    assert list(usable(attacks, members)) == expected
    assert "classifier" not in usable(attacks, np.arange(200) < 1)


@pytest.fixture
def run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *_: {})
    words = ["attack=[threshold,lira]", "attack.shadows=4", "dataset.train_size=120", "device=cpu", "threads=1"]
    words += ["unlearner=none", "optimizer.epochs=40", "workers=1"]
    plain = advunlearn.run(words, "runs/plain").metrics
    return plain, advunlearn.run([*words, "audits.retained=true"], "runs/asked").metrics


def test_a_run_attacks_who_stays_and_changes_nothing_else(run: Any) -> None:
    plain, asked = run
    found = asked.pop("retained")
    assert "retained" not in plain
    assert {**asked, "seconds": 0} == {**plain, "seconds": 0}
    assert set(found) == set(Retained.__annotations__)
    assert found["examples"]["retain"] > 80
    for name in MODELS:
        assert set(found["models"][name]) == {"threshold", "lira"}
        assert found["models"][name]["lira"]["shadows"] == 4
    original, retrained, unlearned = (found["models"][name]["threshold"] for name in MODELS)
    assert original == unlearned  # of `none`
    assert original["auc_low"] > 0.5  # retained examples are members of all models
    assert retrained["auc_low"] > 0.5
    assert asked["models"]["retrained"]["attacks"]["threshold"]["auc_low"] < 0.5  # and forget examples are not

    row = next(row for row in records({**asked, "retained": found}) if row["section"] == "retained, AUC")
    assert (row["name"], row["unlearned"]) == ("threshold", unlearned["auc"])
    summary = summarise(find_runs([Path("runs")]))
    columns = retained_columns(run for group in summary.groups for run in group.runs)
    assert [column.attack for column in columns] == ["threshold", "lira"]
