"""How a comparison of methods stands to retraining and to the game: known gaps, known answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advunlearn.evaluation.comparison import average_gap, tug_of_war
from advunlearn.evaluation.metrics_file import Gap
from advunlearn.report.summary.formats import comma_separated, latex, markdown, text
from advunlearn.report.summary.methods import EXCESS, floor, notes, standings
from advunlearn.report.summary.page import write_overview
from advunlearn.report.summary.runs import Summary, summarise
from tests.report.runs import config, metrics, write

SEEDS = (1, 2, 3)
# The gap under LiRA by method and seed.
GAPS = {
    "sg (svm)": (0.02, -0.02, 0.02),
    "near": (0.01, -0.01, 0.01),
    "same": (0.03, -0.01, 0.02),
    "far": (0.20, 0.21, 0.20),
    "none": (0.30, 0.30, 0.30),
    EXCESS: (-0.4, -0.4, -0.4),
}
AGAIN = {1: (0.01, -0.015), 2: (0.005, 0.0), 3: (-0.01, 0.01)}  # two retrained models per seed


def run(folder: Path, method: str, seed: int, gap: float, **options: Any) -> Path:
    unlearner = {"_target_": "advunlearn.unlearners.finetune.Finetune", "lr": hash(method) % 97, "draw": folder.name}
    game = config(seed) if method.startswith("sg") else config(seed, unlearner=unlearner)
    path = write(folder, game, metrics({"lira": gap}, **options))
    (path / "job.json").write_text(json.dumps({"method": method}))
    return path


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    folders = [
        run(
            tmp_path / f"{method}-{seed}",
            method,
            seed,
            gap,
            time=3.0 if method == "far" else 0.2,
            trace={"collapsed": True} if method == "near" and seed == 1 else None,
        )
        for method, gaps in GAPS.items()
        for seed, gap in zip(SEEDS, gaps, strict=True)
    ]
    folders += [
        run(tmp_path / f"retrain-{seed}-{draw}", "retrain", seed, gap)
        for seed, gaps in AGAIN.items()
        for draw, gap in enumerate(gaps)
    ]
    broken = write(tmp_path / "broken", config(1), status="failed", error="ValueError: it broke")
    (broken / "job.json").write_text(json.dumps({"method": "broken"}))
    return summarise([*folders, broken])


def test_a_method_is_a_row_and_the_nearest_comes_first(summary: Summary) -> None:
    assert summary.by_method
    assert [group.name for group in summary.groups] == ["retrain", "near", "sg (svm)", "same", "far", "none", EXCESS]
    assert [len(group.runs) for group in summary.groups] == [6, 3, 3, 3, 3, 3, 3]
    near = summary.groups[1]
    assert near.sizes("lira") == {"1": 0.01, "2": 0.01, "3": 0.01}


def test_the_floor_is_the_largest_distance_of_a_model_that_is_retrained_again(summary: Summary) -> None:
    assert floor(summary, "lira") == 0.015
    assert floor(summary, "rmia") is None


def test_notes_name_controls_ties_collapses_and_slow_methods(summary: Summary) -> None:
    found = dict(zip((group.name for group in summary.groups), notes(summary), strict=True))
    assert found["retrain"] == "control: retrained again, the floor"
    assert found["near"] == "tied with retraining; collapsed in 1 of 3 runs"
    assert found["sg (svm)"] == found["same"] == ""  # 0.02 is above the floor
    assert found["far"] == "slower than retraining"
    assert found["none"] == "control: no unlearning"
    assert found[EXCESS] == "control: forgets too much"


def test_each_game_is_ahead_tied_or_behind(summary: Summary) -> None:
    nearest, least, game = standings(summary)
    assert nearest.endswith(
        "near (0.010 ± 0.000 under lira); sg (svm) (0.020 ± 0.000 under lira); same (0.020 [0.000, 0.045] under lira)."
    )
    assert "0.015 under lira" in least
    assert game == (
        "sg (svm) under lira (0.020 ± 0.000 from the retrained model): behind near; tied with same; ahead of far."
    )


def test_every_format_has_names_of_methods_and_the_failed_run(summary: Summary, tmp_path: Path) -> None:
    for table in (text(summary), markdown(summary), latex(summary), comma_separated(summary)):
        assert "sg (svm)" in table
        assert "Finetune" not in table
        assert "broken" in table
    assert "near $^{=}$ &" not in latex(summary)  # it collapsed once: no plain tie
    assert r"\midrule" in latex(summary)
    rows = [line for line in latex(summary).splitlines() if line.startswith(("near", "far", "sg", "retrain"))]
    assert {line.count("&") for line in rows} == {len(summary.columns) + 1}  # the method and the number of its runs
    assert "behind near" in text(summary)
    write_overview(summary, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "collapsed in 1 of 3 runs" in page
    assert "behind near" in page


def test_average_gap_and_tug_of_war() -> None:
    gap: Gap = {
        "accuracy": {"retain": -0.1, "forget": 0.2, "test": 0.0},
        "loss_ks": 0.5,
        "loss_wasserstein": 9.0,
        "attacks": {"lira": 0.3, "lira/offline": 0.9, "rmia": -0.5},
    }
    assert average_gap(gap) == pytest.approx((0.1 + 0.2 + 0.0 + 0.4) / 4)
    assert tug_of_war(gap) == pytest.approx(0.9 * 0.8 * 1.0)
    assert tug_of_war(gap, attacks=True) == pytest.approx(0.9 * 0.6 * 1.0)


def test_a_method_that_misleads_one_attack_is_ranked_by_the_other(tmp_path: Path) -> None:
    def folder(method: str, lira: float, rmia: float) -> Path:
        unlearner = {"_target_": "advunlearn.unlearners.finetune.Finetune", "lr": lira}
        found = metrics({"lira": lira, "rmia": rmia}, before={"lira": 0.3, "rmia": 0.2})
        path = write(tmp_path / method, config(1, unlearner=unlearner), found)
        (path / "job.json").write_text(json.dumps({"method": method}))
        return path

    summary = summarise([folder("misleads", 0.0, 0.15), folder("honest", 0.05, -0.06)])
    assert [group.name for group in summary.groups] == ["honest", "misleads"]
    assert "honest (0.060 under rmia); misleads (0.150 under rmia)" in standings(summary)[0]
