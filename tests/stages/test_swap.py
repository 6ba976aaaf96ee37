"""Stage `swap`: the advantage by hand, 0 for retraining, and what is not forgotten is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import Advantage, Swap
from advunlearn.options import ConfigError, UserError
from advunlearn.report.run.table import records
from advunlearn.stages.swap import advantage, swapped_splits

LABELS = np.arange(600) % 3
SPLITS = Splits(np.arange(200), np.arange(200, 230), np.arange(230, 260), np.arange(260, 300), np.arange(300, 600))


def test_the_forget_set_changes_places_with_as_many_test_examples_of_its_classes() -> None:
    found = swapped_splits(SPLITS, LABELS, seed=0)
    assert found.splits.forget.tolist() == found.taken.tolist()
    assert np.isin(found.taken, SPLITS.test).all()
    assert np.bincount(LABELS[found.taken]).tolist() == np.bincount(LABELS[SPLITS.forget]).tolist()
    assert np.isin(SPLITS.forget, found.splits.test).all()
    assert len(found.splits.test) == len(SPLITS.test)
    for part in ("retain", "audit", "selection"):
        np.testing.assert_array_equal(getattr(found.splits, part), getattr(SPLITS, part))
    assert swapped_splits(SPLITS, LABELS, seed=1).taken.tolist() != found.taken.tolist()


def test_too_few_test_examples_of_a_class_are_refused() -> None:
    labels = LABELS.copy()
    labels[300:600] = np.where(labels[300:600] == 2, 0, labels[300:600])
    with pytest.raises(UserError, match="needs 10 test examples of class 2, as many as are forgotten, and there are 0"):
        swapped_splits(SPLITS, labels, seed=0)


def test_the_advantage_by_hand() -> None:
    first = np.array([True] * 4 + [False] * 4)
    before = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)  # 3/4 of the forgotten, 1/4 of the others
    after = np.array([1, 0, 0, 0, 1, 0, 1, 1], bool)  # 3/4 of the forgotten, which are now the others, and 1/4
    expected = ((3 / 4 - 1 / 4) + (3 / 4 - 1 / 4)) / 2
    found = advantage(before, after, first)
    assert found["advantage"] == pytest.approx(expected)
    # Differences of each side: (0, 1, 1, 0) and (1, 0, 0, 1), of variance 1/3.
    assert found["advantage_low"] == pytest.approx(max(0.0, expected - 1.959964 * np.sqrt(2 * (1 / 3) / 4 / 4)))
    assert advantage(after, before, first)["advantage"] == pytest.approx(expected)  # its size, not its sign


def test_an_attacker_has_no_advantage_over_one_model_however_easy_the_forget_set_is() -> None:
    first = np.arange(60) < 30
    assert advantage(first, first, first) == {"advantage": 0, "advantage_low": 0, "advantage_high": 0}


def test_the_interval_covers_the_advantage_of_a_simulated_attacker() -> None:
    rng, first, covered = np.random.default_rng(0), np.arange(120) < 60, 0
    for _ in range(400):
        difficulty = rng.random(120)  # shared by both answers: examples differ more than models do
        before = rng.random(120) < np.where(first, 0.25, 0.05) + 0.7 * difficulty
        after = rng.random(120) < np.where(first, 0.05, 0.25) + 0.7 * difficulty
        found = advantage(before, after, first)
        covered += found["advantage_low"] <= 0.2 <= found["advantage_high"]
    assert covered / 400 > 0.92


def test_on_digits_retraining_has_no_advantage_and_no_unlearning_has_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *_: {})
    words = ["attack=threshold", "unlearner=none", "device=cpu", "threads=1", "seed=1", "forget.fraction=0.4"]
    metrics = advunlearn.run([*words, "audits.swap=true"], "run").metrics
    found = metrics["swap"]
    assert set(found) == set(Swap.__annotations__)
    assert set(found["models"]["original"]) == set(Advantage.__annotations__)
    assert found["models"]["retrained"]["advantage"] == 0
    assert found["models"]["original"]["advantage_low"] > 0
    assert found["models"]["unlearned"] == found["models"]["original"]
    (row,) = (row for row in records(metrics) if row["section"] == "swap")
    assert (row["original"], row["computed on"]) == (found["models"]["original"]["advantage"], "100 forget, 100 test")


def test_a_swap_needs_a_random_forget_set_and_a_training() -> None:
    cases: list[tuple[Any, str]] = [
        (["forget=mislabelled"], "audits.swap is for random forget sets"),
        (["forget.rounds=2"], r"audits.swap is for one request, got forget.rounds=2"),
        (["original.path=model.pt"], "audits.swap trains another original"),
    ]
    for words, line in cases:
        with pytest.raises(ConfigError, match=line):
            experiment_from(["audits.swap=true", *words])
