"""Which attack the models are judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from advunlearn.evaluation.comparison import primary, strongest_attack
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.report.run.table import verdict
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.runs import summarise
from advunlearn.report.summary.verdict import comparisons
from tests.report.runs import config, metrics, write


def of(original: dict[str, float], unlearned: float = 0.0) -> Metrics:
    """Return metrics with these gaps of the original model, by attack."""
    return metrics(dict.fromkeys(original, unlearned), before=original)


@pytest.mark.parametrize(
    ("gaps", "strongest"),
    [
        ({"lira": 0.2, "rmia": 0.1}, "lira"),
        ({"lira": 0.2, "rmia": -0.3}, "rmia"),  # AUCs of 0.7 and 0.2
        ({"lira": -0.1, "rmia": -0.3}, "rmia"),
        ({"threshold": 0.2, "threshold/per_class": 0.3, "lira": 0.1}, "threshold"),
        ({"threshold/per_class": -0.4, "lira": 0.0}, "lira"),
        ({"lira": 0.2, "rmia": 0.2}, "lira"),
    ],
)
def test_the_size_of_the_gap_of_a_primary_score_decides(gaps: dict[str, float], strongest: str) -> None:
    assert strongest_attack([of(gaps)]) == strongest


def test_the_unlearned_model_has_no_part_in_the_choice() -> None:
    found = metrics({"lira": 0.0, "rmia": 0.5}, before={"lira": 0.2, "rmia": 0.1})
    assert strongest_attack([found]) == "lira"


def test_what_the_retrained_model_shows_as_well_is_not_counted() -> None:
    found = metrics({"lira": 0.0, "threshold": 0.0}, before={"lira": 0.2, "threshold": 0.05})
    for model in found["models"].values():  # as where a whole class is forgotten
        model["attacks"]["threshold"]["auc"] += 0.4
    assert strongest_attack([found]) == "lira"


def test_signs_that_change_from_seed_to_seed_cancel() -> None:
    runs = [of({"lira": 0.1, "rmia": 0.3}), of({"lira": 0.1, "rmia": -0.3})]
    assert strongest_attack(runs) == "lira"
    assert strongest_attack([of({"lira": -0.1, "rmia": 0.05})] * 2) == "lira"


def test_an_attack_that_more_runs_have_comes_first() -> None:
    assert strongest_attack([of({"lira": 0.1, "rmia": 0.4}), of({"lira": 0.1})]) == "lira"


def test_the_page_and_the_summary_name_the_same(tmp_path: Path) -> None:
    found = of({"threshold": 0.1, "threshold/per_class": 0.4, "lira": -0.3, "rmia": 0.2})
    write(tmp_path / "0", config(), found)
    (comparison,) = comparisons(summarise(find_runs([tmp_path])))
    assert comparison.strongest == "lira"
    assert verdict(found).startswith("lira, the strongest attack, tells forget from test examples with an AUC of 0.200")


def test_names_of_variants_are_left_out() -> None:
    assert primary(["lira", "threshold", "threshold/per_class", "lira"]) == ["lira", "threshold"]
