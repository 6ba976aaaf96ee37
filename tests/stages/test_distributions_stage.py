"""Stage `distributions`: which models and examples are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from advunlearn.attacks.statistics import query_margins
from advunlearn.evaluation.distributions import epsilons, klom
from advunlearn.evaluation.further_metrics import Distributions
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.originals import OriginalSet
from advunlearn.stages import distributions
from advunlearn.stages.distributions import compare, measure
from tests.shadows.test_originals import EVERY_THIRD, LABELS, TEST, original_set, scale
from tests.shadows.test_shadows import digits_trainer, stored


def unchanged(trainer: object, network: nn.Module, *request: object) -> nn.Module:
    return network


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> OriginalSet:
    """Return six shadow originals of an unlearner that does nothing."""
    trainer = digits_trainer(tmp_path_factory.mktemp("store"), settings=Settings(device="cpu", threads=1))
    return original_set(trainer, unlearn=unchanged, name="nothing")


@pytest.fixture(scope="module")
def found(six: OriginalSet) -> Distributions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributions, "LEAST_ORIGINALS", 6)
        return measure(six)


def test_an_unlearner_that_does_nothing_is_where_the_original_is(found: Distributions) -> None:
    assert found["reason"] == ""
    assert found["each"] == 3
    assert set(found["models"]) == {"original", "retrained", "unlearned"}
    assert found["models"]["unlearned"] == found["models"]["original"] != found["models"]["retrained"]


def test_each_part_is_compared_in_the_models_in_which_it_has_this_role(six: OriginalSet, found: Distributions) -> None:
    parts = [six.rows.parts(index) for index in range(6)]
    others = np.intersect1d(six.rows.rest, TEST)
    assert found["examples"] == {"forget": len(EVERY_THIRD), "retain": len(others), "test": len(others)}
    seen_on = {"forget": six.observe(EVERY_THIRD), "retain": six.observe(others)}
    for part in ("forget", "retain", "test"):
        rows, seen = (EVERY_THIRD, seen_on[part]) if part == "forget" else (others, seen_on["retain"])
        expected = []
        for place, row in enumerate(rows):
            forgot, kept = np.array([row in both[1] for both in parts]), np.array([row in both[0] for both in parts])
            models = {"forget": forgot, "retain": kept, "test": ~kept}[part]
            margins = [
                query_margins(logits[models][:, [place]], LABELS[[row]])[..., 0]
                for logits in (seen.original, seen.retrained)
            ]
            expected.append(klom(*margins)[0])
        assert found["models"]["original"]["klom"][part] == pytest.approx(np.nanpercentile(expected, 95))


def test_the_competitions_score_is_quality_times_both_ratios_of_accuracies() -> None:
    margins = np.random.default_rng(0).normal(size=(40, 5))
    right = np.ones((40, 5))
    half, most = right.copy(), right.copy()
    half[::2], most[:10] = 0, 0
    ours = {"forget": (margins, right), "retain": (margins, half), "test": (margins, right)}
    theirs = {"forget": (margins, right), "retain": (margins, most), "test": (margins, half)}
    found = compare(ours, theirs)
    assert found["klom"] == pytest.approx({"forget": 0, "retain": 0, "test": 0})
    assert epsilons(margins, margins).max() < 1.5  # of a rule whose two rates are below one half
    assert found["competition_score"] == pytest.approx(found["forgetting_quality"] * (0.5 / 0.75) * (1 / 0.5))


def test_too_few_models_have_no_numbers_and_are_not_trained(tmp_path: Path) -> None:
    few = original_set(digits_trainer(tmp_path), originals=62, unlearn=scale)
    found = measure(few)
    assert found["models"] == {}
    assert found["reason"] == "62 shadow originals are too few (try attack.originals=64)"
    assert not stored(few.trainer)


def test_without_test_examples_to_keep_there_are_no_numbers(six: OriginalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "LEAST_ORIGINALS", 6)
    few = replace(six, test=six.rows.candidates[~np.isin(six.rows.candidates, six.forget)])
    assert measure(few)["reason"] == "no test examples are left that shadow originals can keep"
