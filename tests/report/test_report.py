"""The page, the tables and the pictures of runs."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.evaluation.attack_metrics import AttackMetrics
from advunlearn.evaluation.metrics_file import Gap, Metrics, ModelMetrics, Trace, read_metrics
from advunlearn.evaluation.names import MODELS
from advunlearn.loggers.values import trace_values
from advunlearn.report.run.page import render, write_report
from advunlearn.report.run.pictures import draw, trace_figure
from advunlearn.report.run.table import DOUBT, notes, verdict
from advunlearn.report.run.terminal import comparison_table
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.pictures import draw_overview
from advunlearn.report.summary.runs import summarise
from tests.conftest import with_pictures
from tests.report.runs import config, metrics, write

SMALL = ["optimizer.epochs=4", "unlearner.epochs=1", "attack=[threshold,classifier,lira]", "attack.shadows=4"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("report")
        patch.setenv("ADVUNLEARN_CACHE", str(root / "cache"))
        with_pictures(patch)
        advunlearn.run(SMALL, root / "sg")
        advunlearn.run([*SMALL, "seed=1"], root / "sg1")
        advunlearn.run([*SMALL, "unlearner=finetune"], root / "finetune")
        advunlearn.run([*SMALL, "unlearner.alpha=0.5"], root / "half")
    return root


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_the_table_holds_every_number_of_the_metrics(finished: Path) -> None:
    metrics = metrics_of(finished / "sg")
    table = comparison_table(metrics)
    for model in metrics["models"].values():
        for attack in model["attacks"].values():
            assert f"{attack['auc']:.3f}" in table
            assert all(f"{value:.3f}" in table for value in attack["figures"].values())
        for value in (*model["accuracy"].values(), model["loss_ks"], model["loss_wasserstein"]):
            assert f"{value:.3f}" in table
    gap = metrics["gap"]["unlearned"]["attacks"]["lira"]
    assert re.search(rf"lira .*{re.escape(f'{gap:+.3f}')}", table)
    assert "match retrained" in table
    assert "per class balanced accuracy" in table
    assert re.search(
        rf"epsilon at least .*{metrics['models']['original']['attacks']['threshold']['epsilon_low']:.3f}", table
    )
    assert "too few" in table


def test_what_a_run_writes_has_the_defined_keys(finished: Path) -> None:
    metrics = read_metrics(finished / "sg")
    assert metrics == metrics_of(finished / "sg")
    # A given original, wrong labels, several requests, shadow originals, several retrained models, whole classes,
    # further audits.
    of_other_runs = {"original", "mislabelled", "rounds", "distributions", "control", "neighbours"}
    of_other_runs |= {"relearning", "retained", "canaries", "swap"}
    assert set(metrics) == set(Metrics.__annotations__) - of_other_runs
    assert set(metrics["trace"]) == set(Trace.__annotations__) - {"epochs", "collapsed"}
    for model in metrics["models"].values():
        assert set(model) == set(ModelMetrics.__annotations__)
        for name, attack in model["attacks"].items():
            at_threshold = {"operating"} if name == "lira" else set()  # a primary score with shadow models
            assert set(attack) == set(AttackMetrics.__annotations__) - {"operating"} | at_threshold
    assert all(set(each) == set(Gap.__annotations__) for each in metrics["gap"].values())


def test_the_page_is_one_file_that_asks_for_nothing(finished: Path) -> None:
    page = (finished / "sg" / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"[$]|{[{%#]", re.sub(r'base64,[^"]*', "", page))  # no placeholder is left
    for word in ("original", "retrained", "unlearned", "lira", "Wasserstein", "torch"):
        assert word in page
    assert verdict(metrics_of(finished / "sg")) in page


def test_names_of_attacks_and_what_was_typed_are_text_and_not_html(finished: Path) -> None:
    hostile = "<script>alert('&')"
    metrics, manifest = read_metrics(finished / "sg"), json.loads((finished / "sg" / "manifest.json").read_text())
    for model in metrics["models"].values():
        lira = {**model["attacks"].pop("lira"), "note": hostile, "figures": {hostile: 0.123}}
        model["attacks"][hostile] = lira
        model["attacks"][f"{hostile}/variant"] = lira
    for gap in metrics["gap"].values():
        gap["attacks"] = {hostile: 0.3}
    manifest |= {"overrides": [hostile], "choices": {"dataset": hostile}, "device_name": hostile, "started": hostile}
    manifest["splits"] = manifest["versions"] = {hostile: hostile}
    page = render(metrics, manifest, {"roc": b""})
    assert "<script" not in page
    assert "alert('" not in page
    text = unescape(page)  # as a browser shows it
    for words in (f"AUC of {hostile}", f"{hostile}/variant", f"advunlearn run {hostile}", f"report: {hostile}"):
        assert words in text
    # Beyond the terminal's table: title and heading, command and time, a card, splits, device and versions; then, of
    # the first page, the conclusion (twice), the list of attacks, and the limits with a note on the attack.
    assert text.count(hostile) == comparison_table(metrics).count(hostile) + 2 + 2 + 1 + 2 + 1 + 2 + 2 + 1 + 1 + 2


@pytest.mark.parametrize(("low", "high", "words"), [(0.4, 0.6, "0.5, as it must be"), (0.51, 0.6, DOUBT)])
def test_the_notes_say_whether_the_audit_of_the_algorithm_passes_its_own_test(
    low: float, high: float, words: str
) -> None:
    found = metrics({"ulira": 0.1})
    auc = (low + high) / 2
    each: Any = {"auc": auc, "auc_low": low, "auc_high": high, "interval": "", "originals": 4, "scores": 200}
    found["algorithm"] = {"ulira": {"privacy": dict.fromkeys(MODELS, each)}}
    line = f"ulira, tested on the algorithm that retrains: privacy {auc:.3f} [{low:.3f}, {high:.3f}]: {words}"
    assert line in notes(found)


def test_examples_without_a_score_are_counted_in_the_notes() -> None:
    found = metrics({"lira": 0.1})
    found["models"]["unlearned"]["attacks"]["lira"] |= {"excluded": 525, "shadows": 128}
    assert "lira: 525 test examples outside the shadow models' pool have no score" in notes(found)


def test_the_verdict_says_on_which_side_and_whether_it_is_noise(finished: Path) -> None:
    metrics = metrics_of(finished / "sg")
    for name, auc in (("original", 0.9), ("retrained", 0.5), ("unlearned", 0.45)):
        metrics["models"][name]["attacks"] = {"lira": {"auc": auc, "auc_low": auc - 0.05, "auc_high": auc + 0.05}}
    metrics["gap"]["original"]["attacks"] = {"lira": 0.4}
    assert verdict(metrics).endswith("to retraining from 0.400 to 0.050 on the other side.")
    metrics["models"]["original"]["attacks"]["lira"]["auc_low"] = 0.54
    assert verdict(metrics).endswith("within the noise of so few examples.")


def test_a_run_without_a_game_has_no_trace(finished: Path) -> None:
    names = {path.name for path in (finished / "finetune").glob("*.png")}
    assert names == {"roc.png", "losses.png"}


def test_the_csv_holds_the_metrics(finished: Path) -> None:
    with (finished / "sg" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    metrics = metrics_of(finished / "sg")
    found = {(line["model"], line["attack"], line["metric"]): line["value"] for line in lines}
    assert float(found["unlearned", "lira", "auc"]) == metrics["models"]["unlearned"]["attacks"]["lira"]["auc"]
    assert float(found["original", "", "accuracy_test"]) == metrics["models"]["original"]["accuracy"]["test"]


@pytest.mark.usefixtures("pictures")
def test_a_report_written_again_is_the_same(finished: Path) -> None:
    before = (finished / "sg" / "report.html").read_bytes()
    write_report(finished / "sg")
    assert (finished / "sg" / "report.html").read_bytes() == before


def test_pictures_stand_extreme_scores() -> None:
    member = np.arange(20) < 5
    extreme = np.where(member, np.inf, -np.inf)
    scores: dict[str, np.ndarray] = {"member": member}
    for model in ("original", "retrained", "unlearned"):
        scores |= {f"{model}/loss": np.zeros(20), f"{model}/lira": extreme}
    assert set(draw({}, scores)) == {"roc", "losses"}


def test_the_trace_marks_the_epoch_that_was_kept_and_stands_a_loss_below_zero() -> None:
    columns = ("base_loss", "utility", "auditor_accuracy", "base_gradient_norm", "game_gradient_norm", "cosine")
    trace: dict = {name: [0.5, -0.5, 0.25, 0.25] for name in columns}
    trace |= {"step": [0, 2, 4, 6], "uninformed_utility": -1.0, "epochs": {"step": [3, 6, 9], "chosen": 1}}
    panels = [axes for axes in trace_figure(trace).axes if axes.get_xlabel() == "step"]
    assert len(panels) == 4
    for axes in panels:
        assert [6, 6] in [list(line.get_xdata()) for line in axes.lines]
    drawn = panels[0].lines[0].get_ydata()
    assert panels[0].get_yscale() == "linear"
    assert list(drawn) == trace["base_loss"]
    del trace["epochs"]
    assert not any(list(line.get_xdata()) == [6, 6] for axes in trace_figure(trace).axes for line in axes.lines)


def test_a_trace_that_is_no_game_is_not_drawn(tmp_path: Path) -> None:
    own: Any = {"step": [0, 1], "own_loss": [0.5, 0.25], "other": [1, 2, 3]}
    scores = {"member": np.arange(20) < 5}
    scores |= {f"{model}/{name}": np.arange(20) / 20 for model in MODELS for name in ("loss", "lira")}
    assert set(draw(own, scores)) == {"roc", "losses"}
    found = metrics({"lira": 0.1}, trace=own)
    assert list(trace_values(own)) == [("game", 0, {"own_loss": 0.5}), ("game", 1, {"own_loss": 0.25})]
    write(tmp_path / "0", config(), found)
    assert set(draw_overview(summarise(find_runs([tmp_path])))) == {"gaps", "utility", "times"}


def test_real_runs_are_averaged_over_seeds(finished: Path) -> None:
    summary = summarise(find_runs([finished]))
    assert summary.keys == ("unlearner._target_", "unlearner.alpha")
    (group,) = (group for group in summary.groups if group.labels == ("sg", "3.0"))
    both = [metrics_of(finished / name)["gap"]["unlearned"]["attacks"]["lira"] for name in ("sg", "sg1")]
    found = group.gap("lira")
    assert found is not None
    assert found.values == tuple(both)
    assert [(row.model, len(row.runs)) for row in summary.rows if row.model != "unlearned"] == [
        ("original", 2),  # all groups start from the same models
        ("retrained", 2),
    ]


def test_the_report_verb(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(finished / "sg")]) == 0
    assert capsys.readouterr().out.endswith(f"report: {finished / 'sg' / 'report.html'}\n")
    before = (finished / "sg" / "report.html").read_bytes()
    assert main(["report", str(finished / "sg"), "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("| runs | model |")
    assert (finished / "sg" / "report.html").read_bytes() == before
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "manifest.json").write_text(json.dumps({"status": "running", "error": None}))
    assert main(["report", str(unfinished)]) == 2
    assert "does not hold a finished run" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "key"), [("metrics.json", "trace"), ("manifest.json", "threads")])
def test_a_run_of_another_version_is_refused_in_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, key: str
) -> None:
    run = Path(shutil.copytree(finished / "sg", tmp_path / "run"))
    contents = json.loads((run / file).read_text())
    del contents[key]
    (run / file).write_text(json.dumps(contents))
    assert main(["report", str(run)]) == 2
    line = f"error: {run / file}: made by another version of advunlearn, without '{key}'\n"
    assert capsys.readouterr().err == line
    if file == "metrics.json":
        assert main(["resume", str(run)]) == 1
        assert capsys.readouterr().err == line


@pytest.mark.usefixtures("pictures")
def test_the_reports_of_several_runs_go_where_they_are_expected(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"report.html", "table.csv", "table.md", "table.tex", "runs.csv"}
    files |= {f"{name}.{kind}" for name in ("gaps", "utility", "times", "traces") for kind in ("png", "pdf", "svg")}
    sweep = tmp_path / "sweep"
    for name in ("sg", "sg1"):
        shutil.copytree(finished / name, sweep / name)
    assert main(["report", "sweep"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("report: sweep/report.html, with table.csv")
    assert {path.name for path in sweep.iterdir() if path.is_file()} == files
    page = (sweep / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert page.count("data:image/png;base64,") == 4
    assert main(["report", "sweep/sg", "sweep/sg1", "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert said.out == (tmp_path / "report" / "table.csv").read_text()
    assert "report: report/report.html" in said.err
    assert main(["report", "sweep", "--out", "elsewhere"]) == 0
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == files
    (tmp_path / "file").write_text("")
    assert main(["report", "sweep", "--out", "file"]) == 1
    assert "error: file: the report cannot be written" in capsys.readouterr().err
