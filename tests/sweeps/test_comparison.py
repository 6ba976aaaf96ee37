"""Comparisons and tuning of methods, of the user's own as well."""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path
from typing import Any

import pytest

from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.options import ConfigError
from advunlearn.sweeps.comparison import CONTROLS, comparison_of, methods_of

METHOD = """
from dataclasses import dataclass
from advunlearn.options import option
from advunlearn.unlearners.unlearner import Unlearned, Unlearner

@dataclass
class Shrink(Unlearner):
    factor: float = option(1.0, above=0, at_most=1, search=(0.1, 0.9))

    def unlearn(self, network, task):
        for parameter in network.parameters():
            parameter.data *= self.factor
        return Unlearned(network)
"""
REFUSAL = """
def check(self, labels):
    from advunlearn.options import UserError
    raise UserError("too few")
"""
SMALL = ["attack=threshold", "optimizer.epochs=3", "threads=1"]


@pytest.fixture
def own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder `my` with a method of the user, `shrink`."""
    (workplace / "my" / "unlearner").mkdir(parents=True)
    (workplace / "my" / "unlearner" / "shrink.yaml").write_text("# mine\n_target_: mymethods.Shrink\n")
    (workplace / "mymethods.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(workplace))
    return workplace


def test_without_names_every_method_that_can_run_is_compared_and_the_game_with_every_auditor(own: Path) -> None:
    (own / "my" / "unlearner" / "shrink.yaml").write_text("# mine\n_target_: mymethods.Shrink\nfactor: 7\n")
    comparison = comparison_of(["seed=1", "recipe=none"], "my")
    found = list(dict.fromkeys(name for name, _ in comparison.jobs))
    games = [f"sg ({auditor})" for auditor in ("likelihood_ratio", "logistic", "neural", "svm")]
    assert set(games) < set(found)
    assert {"salun", "scrub", "ssd", "amun"} < set(found)
    assert found[-3:] == list(CONTROLS)
    assert comparison.left_out == [
        "shrink: unlearner.factor must be greater than 0 and at most 1, got 7.0 (try unlearner.factor=1.0)"
    ]
    with pytest.raises(ConfigError, match="factor must be greater than 0"):
        comparison_of(["seed=1", "unlearner=shrink"], "my")


def test_an_option_is_set_for_the_methods_that_have_it() -> None:
    comparison = comparison_of(["unlearner=sg,salun,ssd", "unlearner.alpha=1,9", "unlearner.lr=0.02", "seed=4"])
    found = {name: job.experiment.unlearner for name, job in comparison.jobs}
    assert list(found) == ["sg (svm) alpha=1", "sg (svm) alpha=9", "salun", "ssd", *CONTROLS]
    assert [getattr(found[name], "alpha", None) for name in found][:2] == [1, 9]
    assert getattr(found["salun"], "lr", None) == 0.02
    assert getattr(found["none"], "lr", None) is None
    assert {job.experiment.settings.seed for _, job in comparison.jobs} == {4}


def test_an_option_of_an_auditor_is_set_for_the_auditors_that_have_it() -> None:
    words = ["unlearner=sg,finetune", "auditor=svm,calibrated", "auditor.references=8", "seed=4,5"]
    comparison = comparison_of(words)
    games: list[tuple[str, Any]] = [
        (name, job.experiment.unlearner) for name, job in comparison.jobs if name.startswith("sg")
    ]
    assert [name for name, _ in games] == ["sg (svm)"] * 2 + ["sg (calibrated)"] * 2
    assert [game.auditor.reference_models() for _, game in games] == [0, 0, 8, 8]
    assert not comparison.left_out
    with pytest.raises(ConfigError, match=r"auditor\.references: no such option"):
        comparison_of(["unlearner=sg", "auditor=svm,logistic", "auditor.references=8"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["unlearner=salun", "unlearner.alpha=1"], "unlearner.alpha: no such option of any of these methods"),
        (
            ["unlearner=salun,ssd", "unlearner.epoch=1"],
            "unlearner.epoch: no such option (did you mean unlearner.epochs?)",
        ),
        (["unlearner=salun", "auditor=svm"], "auditor: no such option of any of these methods"),
        (["unlearner=salun,sgg"], "sgg: unlearner=sgg: no such option"),
        (["unlearner=salun", "forget.fraction=0.1,0.2"], "forget.fraction: a comparison is of one setting"),
        (["unlearner=salun", "unlearner.lr=-1"], "salun: unlearner.lr must be greater than 0, got -1"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        comparison_of([*overrides, "seed=1"])
    assert any(problem.startswith(said) for problem in caught.value.problems), caught.value.problems


def test_tuning_is_of_one_setting() -> None:
    assert [job.experiment.settings.seed for job in methods_of(["unlearner=salun"])["salun"]] == [101, 102, 103]
    with pytest.raises(ConfigError, match="tune searches for the options"):
        methods_of(["unlearner=salun", "unlearner.lr=0.1,0.2", "seed=1"])


def test_a_method_of_the_user_is_tuned_and_compared_by_its_name(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--config-dir", "my", "unlearner=shrink,none", *SMALL]
    assert main(["tune", "--trials", "4", "--limit", "1000", "seed=7,8", *words]) == 0
    said = capsys.readouterr().out
    assert "none: no option to search" in said
    with open("tuned/tune/digits/shrink.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["factor"] == "1.0"  # the present setting
    assert all(0.1 <= float(row["factor"]) <= 0.9 for row in rows[2:])
    (chosen,) = (row for row in rows if row["chosen"] == "yes")
    assert float(chosen["utility"]) == max(float(row["utility"]) for row in rows)
    written = Path("tuned/recipe/digits/unlearner/shrink.yaml").read_text(encoding="utf-8")
    assert written.splitlines()[-1] == f"factor: {chosen['factor']}"
    assert main(["tune", "--trials", "4", "--limit", "1000", "--out", "again", "seed=7,8", *words]) == 0
    first, second = (
        Path(folder, "tune/digits/shrink.csv").read_text(encoding="utf-8") for folder in ("tuned", "again")
    )
    assert first == second
    capsys.readouterr()

    searched = f"hydra.searchpath=[{own / 'tuned'}]"
    tuned = experiment_from(["unlearner=shrink", searched], "my").unlearner
    assert getattr(tuned, "factor", None) == float(chosen["factor"])

    assert main(["compare", "--out", "runs", "seed=1", searched, *words]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines() if line.startswith(("shrink", "none", "over"))]
    assert main(["report", "runs", "--format", "latex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("shrink") for line in lines)
    assert not any("Shrink" in line for line in lines)
    assert Path("runs/report.html").is_file()


def test_a_failed_run_is_listed_and_the_others_are_compared(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "mymethods.py").write_text(
        METHOD.replace("return Unlearned", "raise OSError('no such luck')\n        return Unlearned")
    )
    assert main(["compare", "--config-dir", "my", "--out", "runs", "unlearner=shrink", "seed=1", *SMALL]) == 1
    out = capsys.readouterr().out
    assert "no result: runs/0 (method=shrink seed=1, failed: OSError: no such luck)" in out
    assert "control: no unlearning" in out


def test_tuning_says_what_it_needs(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--trials", "0"]) == 2
    assert capsys.readouterr().err == "error: --trials must be at least 1 and --limit above 0, got 0 and 1\n"
    (own / "mymethods.py").write_text(METHOD + textwrap.indent(REFUSAL, "    "))
    words = ["--config-dir", "my", "--trials", "1", "unlearner=shrink,finetune", "seed=1", *SMALL]
    assert main(["tune", *words]) == 1
    said = capsys.readouterr()
    assert "shrink: left out: too few (the forget options" in said.err
    assert said.out.startswith("finetune: utility ")
    assert Path("tuned/recipe/digits/unlearner/finetune.yaml").is_file()
