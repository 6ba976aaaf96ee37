"""The search for options: its ranges, its choice, and what it looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from advunlearn.config.compose import jobs_from
from advunlearn.options import option
from advunlearn.sweeps.tuning import Judged, Range, Study, Trial, recipe_file, requests, search_space, study
from advunlearn.unlearners.finetune import Finetune
from advunlearn.unlearners.salun import SalUn
from advunlearn.unlearners.ugradsl import UGradSL


def trial(name: int, utility: float, time: float) -> Trial:
    return Trial({"lr": float(name)}, Judged(utility, 0.9, 0.5, time))


RETRAINED = Judged(0.45, 0.95, 0.5, 1.0)


def test_ranges_are_inherited_with_another_default() -> None:
    @dataclass
    class Mine(Finetune):
        lr: float = option(0.5, above=0)  # another default, the range of the base class
        strength: int = option(3, at_least=0, search=(1, 9))

    assert search_space(Mine()) == {
        "lr": Range(1e-5, 1.0, False),
        "epochs": Range(1, 30, True),
        "strength": Range(1, 9, True),
    }
    assert search_space(SalUn())["share"].logarithmic is False
    assert search_space(SalUn())["lr"].logarithmic is True
    assert search_space(UGradSL())["smoothing"].logarithmic is False  # it is negative


def test_the_choice_is_the_best_within_the_limit_and_else_the_best_and_marked() -> None:
    slow, good, bad = trial(1, 0.4, 2.0), trial(2, 0.3, 0.9), trial(3, 0.1, 0.1)
    failed = Trial({"lr": 4.0}, None, "it diverged")
    assert Study([slow, good, bad, failed], 1.0, RETRAINED).best is good
    late = Study([trial(5, 0.2, 1.5), slow, failed], 1.0, RETRAINED)
    assert late.best is slow
    assert "longer than the limit of 1 times retraining" in (recipe_file("mine", late, [1], {}) or "")
    assert Study([failed], 1.0, RETRAINED).best is None
    assert recipe_file("mine", Study([failed], 1.0, RETRAINED), [1], {}) is None


@pytest.fixture
def words(workplace: Path) -> list[str]:
    return ["unlearner=finetune", "attack=threshold", "optimizer.epochs=3", "threads=1"]


def test_the_first_trial_is_the_present_setting_also_outside_its_range(words: list[str]) -> None:
    with requests(jobs_from([*words, "unlearner.epochs=31", "seed=1"])) as found:
        first, second = study(found, 2, 100.0)
    assert first.options["epochs"] == 31
    assert first.judged is not None
    assert second.options["epochs"] <= 30


def test_a_setting_that_diverges_is_a_failed_trial(words: list[str]) -> None:
    with requests(jobs_from([*words, "unlearner.lr=1e30", "seed=1"])) as found:
        (made,) = study(found, 1, 100.0)
    assert made.judged is None
    assert "diverged" in made.problem


def test_the_test_set_has_no_influence(words: list[str]) -> None:
    with requests(jobs_from([*words, "seed=1"])) as (request,):
        unlearner = request.experiment.unlearner
        judged = request.judged(unlearner)
        without = replace(request, splits=replace(request.splits, test=np.empty(0, np.int64)))
        assert without.judged(unlearner) == judged
        fewer = replace(request, splits=replace(request.splits, selection=request.splits.selection[:100]))
        assert fewer.judged(unlearner).accuracy != judged.accuracy


def test_a_recipe_keeps_what_was_not_searched() -> None:
    small = recipe_file("mine", Study([trial(2, 0.3, 0.9)], 1.0, RETRAINED), [7], {"weight": 1e-05})
    assert yaml.safe_load(small or "")["weight"] == 1e-05
    assert "on seed 7:" in (small or "")
    text = recipe_file("mine", Study([trial(2, 0.3, 0.9)], 1.0, RETRAINED), [1, 2], {"lr": 9.0, "audit_every": 4})
    assert text is not None
    assert text.splitlines()[-2:] == ["lr: 2.0", "audit_every: 4"]
