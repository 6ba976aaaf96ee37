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


def with_intervals(gaps: dict[str, tuple[float, float]]) -> Metrics:
    """Return metrics with these gaps of the original model, and halves of their intervals, by attack."""
    found = of({name: gap for name, (gap, _) in gaps.items()})
    found["gap"]["original"] |= {
        "attacks_low": {name: gap - half for name, (gap, half) in gaps.items()},
        "attacks_high": {name: gap + half for name, (gap, half) in gaps.items()},
    }
    return found


@pytest.mark.parametrize(
    ("gaps", "strongest"),
    [
        ({"lira": (0.3, 0.25), "rmia": (0.2, 0.05)}, "rmia"),  # 0.05 and 0.15 from the nearer end
        ({"lira": (-0.3, 0.25), "rmia": (0.2, 0.05)}, "rmia"),
        ({"lira": (0.375, 0.125), "rmia": (-0.3125, 0.0625)}, "lira"),  # both 0.25: the larger difference
        ({"lira": (0.1, 0.2), "rmia": (-0.2, 0.3)}, "rmia"),  # neither interval ends before 0
        ({"lira": (0.1, 0.01), "rmia": (-0.2, 0.3)}, "lira"),
    ],
)
def test_the_distance_counts_from_the_nearer_end_of_the_interval(
    gaps: dict[str, tuple[float, float]], strongest: str
) -> None:
    assert strongest_attack([with_intervals(gaps)]) == strongest


def test_over_several_runs_intervals_shrink_as_of_independent_ones() -> None:
    gaps = {"lira": (0.3, 0.25), "rmia": (0.2, 0.05)}  # of 4 runs: 0.3 - 0.125 and 0.2 - 0.025; of 9: 0.217 and 0.183
    assert [strongest_attack([with_intervals(gaps)] * runs) for runs in (1, 3, 5, 9)] == [
        "rmia",
        "rmia",
        "lira",
        "lira",
    ]


def test_an_older_file_has_the_intervals_of_the_two_auc() -> None:
    found = of({"lira": 0.3, "rmia": 0.2})
    for model in found["models"].values():
        for name, half in (("lira", 0.2), ("rmia", 0.01)):
            auc = model["attacks"][name]["auc"]
            model["attacks"][name] |= {"auc_low": auc - half, "auc_high": auc + half}
    assert strongest_attack([found]) == "rmia"  # 0.3 - 0.2 sqrt(2) and 0.2 - 0.01 sqrt(2)


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
