"""Runs as numbers: what is averaged with what, and what is said of runs without a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from advunlearn.evaluation.names import MODELS
from advunlearn.report.summary.columns import Estimate
from advunlearn.report.summary.folders import find_runs, read_run
from advunlearn.report.summary.formats import FORMATS
from advunlearn.report.summary.runs import summarise
from advunlearn.runtime.settings import NUMERIC, Settings
from tests.report.runs import config, metrics, write


def test_an_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=5)
    found = Estimate(tuple(values))
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.half is not None
    np.testing.assert_allclose([found.mean - found.half, found.mean + found.half], [low, high])
    assert Estimate((0.5,)).half is None


def test_runs_are_grouped_by_what_varies_but_the_seed(tmp_path: Path) -> None:
    for seed in range(2):
        for alpha in (0.0, 3.0):
            write(tmp_path / f"{alpha}-{seed}", config(seed, unlearner__alpha=alpha), metrics({"lira": alpha + seed}))
    summary = summarise(find_runs([tmp_path]))
    assert summary.keys == ("unlearner.alpha",)
    assert [group.name for group in summary.groups] == ["sg, alpha=0.0", "sg, alpha=3.0"]
    gaps = [group.gap("lira") for group in summary.groups]
    assert [gap.values for gap in gaps if gap] == [(0.0, 1.0), (3.0, 4.0)]
    assert [(row.labels, row.model, len(row.runs)) for row in summary.rows] == [
        (("",), "original", 2),
        (("",), "retrained", 2),
        (("0.0",), "unlearned", 2),
        (("3.0",), "unlearned", 2),
    ]


def test_models_that_differ_between_groups_are_not_shown_as_one(tmp_path: Path) -> None:
    write(tmp_path / "0", config(unlearner__alpha=0.0), metrics({"lira": 0.1}, before={"lira": 0.2}))
    write(tmp_path / "1", config(unlearner__alpha=1.0), metrics({"lira": 0.1}, before={"lira": 0.3}))
    rows = summarise(find_runs([tmp_path])).rows
    assert [(row.labels, row.model) for row in rows if row.model != "unlearned"] == [
        (("0.0",), "original"),
        (("1.0",), "original"),
        (("",), "retrained"),
    ]


def test_what_does_not_concern_the_unlearner_is_another_setting(tmp_path: Path) -> None:
    for number, (size, alpha) in enumerate([(100, 0.0), (100, 3.0), (200, 0.0), (200, 3.0)]):
        options = config(dataset__train_size=size, unlearner__alpha=alpha)
        write(tmp_path / str(number), options, metrics({"lira": 0.1}))
    summary = summarise(find_runs([tmp_path]))
    assert [group.setting for group in summary.groups] == ["train_size=100"] * 2 + ["train_size=200"] * 2
    assert [row.labels for row in summary.rows if row.model == "original"] == [("100", ""), ("200", "")]


def test_a_setting_that_changes_no_number_makes_no_group_and_no_second_seed(tmp_path: Path) -> None:
    for number, options in enumerate([{}, {"tensorboard": True}, {"checkpoint_seconds": 5.0}]):
        write(tmp_path / str(number), config(**options), metrics({"lira": 0.1}), finished=f"2025-01-0{number + 1}")
    summary = summarise(find_runs([tmp_path]))
    assert summary.keys == ()
    assert summary.repeats == 2
    assert [run.folder.name for run in summary.groups[0].runs] == ["2"]  # the latest


def test_every_state_is_listed_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path / "0", config(0), metrics({"lira": 0.1}))
    write(tmp_path / "1", config(1), None, "failed", "ValueError: first\n  the last line\n")
    write(tmp_path / "2", config(2), None, "interrupted", "Interrupted: by SIGTERM")
    write(tmp_path / "3", config(3), None, "running")  # and nobody holds it
    write(tmp_path / "4", config(4, attack__shard="1/2"))
    write(tmp_path / "5", config(5))
    (write(tmp_path / "6", config(6)) / "manifest.json").unlink()
    (write(tmp_path / "7", config(7), metrics({"lira": 0.1})) / "metrics.json").write_text("{")
    older = {key: value for key, value in metrics({"lira": 0.1}).items() if key != "gap"}
    (write(tmp_path / "8", config(8)) / "metrics.json").write_text(json.dumps(older))
    (write(tmp_path / "9", config(9)) / "manifest.json").write_text("[]")
    begun = tmp_path / "10" / ".hydra"  # Hydra has made the folder, and the job has not come to write into it
    shutil.copytree(tmp_path / "1", begun)
    (begun / "manifest.json").unlink()
    summary = summarise(find_runs([tmp_path]))
    assert [run.folder.name for run in summary.missing] == ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
    found = {int(run.folder.name): (run.state, run.error) for run in summary.missing}
    assert found[1] == ("failed", "the last line")
    assert found[2] == ("interrupted", "Interrupted: by SIGTERM")
    assert found[3] == ("died", "")
    assert found[4] == ("shadow models only", "")
    assert found[5][0] == found[7][0] == found[9][0] == "damaged"
    assert found[6] == found[10] == ("waiting", "")
    assert found[8] == ("other version", "made by another version of advunlearn, without 'gap'")
    assert summary.keys == ()  # a shard is no setting of its own, and a config that is not there no other config


def test_a_run_that_is_going_on_is_running(tmp_path: Path) -> None:
    from advunlearn.runs.manifest import Manifest

    with Manifest(tmp_path / "run"):
        assert read_run(tmp_path / "run").state == "running"
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "completed"


def test_a_group_of_failures_keeps_what_tells_it_apart(tmp_path: Path) -> None:
    write(tmp_path / "0", config(unlearner__alpha=1.0), metrics({"lira": 0.1}))
    write(tmp_path / "1", config(unlearner__alpha=9.0), None, "failed", "Diverged: so it is")
    summary = summarise(find_runs([tmp_path]))
    assert summary.labels(summary.missing[0]) == ("9.0",)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run at or below it"):
        find_runs([tmp_path])
    with pytest.raises(ValueError, match="no such folder"):
        find_runs([tmp_path / "nowhere"])


def test_an_attack_on_the_unlearner_has_a_column_per_question(tmp_path: Path) -> None:
    for seed, auc in ((1, 0.5), (2, 0.7)):
        found: Any = metrics({"lira": 0.1, "ulira": 0.0})
        values = dict(zip(MODELS, (0.9, 0.5, auc), strict=True))
        each = {model: {"auc": value, "auc_low": 0.0, "auc_high": 1.0} for model, value in values.items()}
        found["algorithm"] = {"ulira": {"efficacy": each}}
        write(tmp_path / str(seed), config(seed), found)
    write(tmp_path / "3", config(3), metrics({"lira": 0.1}))  # a run without it
    summary = summarise(find_runs([tmp_path]))
    (column,) = (column for column in summary.columns if column.metric == "efficacy_auc")
    found_of = {row.model: column.of(row.runs, row.model) for row in summary.rows}
    means = {model: each.mean for model, each in found_of.items() if each is not None}
    assert means == pytest.approx({"original": 0.9, "retrained": 0.5, "unlearned": 0.6})
    assert "ulira AUC" in FORMATS["text"](summary)


def test_methods_are_judged_by_questions_on_the_algorithm_as_by_attacks(tmp_path: Path) -> None:
    for name, gap in (("misled", 0.4), ("honest", 0.1)):
        found: Any = metrics({"lira": 0.05})
        found["gap"]["unlearned"]["algorithm"] = {"ulira": {"efficacy": gap, "efficacy_tenth": 0.5}}
        found["gap"]["original"]["algorithm"] = {"ulira": {"efficacy": 0.45, "efficacy_tenth": 0.5}}
        folder = write(tmp_path / name, config(unlearner__alpha=gap), found)
        (folder / "job.json").write_text(json.dumps({"method": name}))
    summary = summarise(find_runs([tmp_path]))
    assert summary.attacks == ("lira", "ulira efficacy")
    found_of = {group.name: group.gap("ulira efficacy") for group in summary.groups}
    assert {name: each.mean for name, each in found_of.items() if each} == {"misled": 0.4, "honest": 0.1}
    assert "ulira efficacy" in FORMATS["text"](summary)
    assert "ulira efficacy" in FORMATS["latex"](summary)


def test_what_changes_a_number_is_what_identifies_a_result() -> None:
    assert set(NUMERIC) == {"deterministic", *Settings(device="cpu").identity()}
