"""`~key=values`: options that a sweep sets only for the runs whose parts have them."""

from __future__ import annotations

from typing import Any

import pytest

from advunlearn.cli import main
from advunlearn.config.compose import check_sweep, experiment_from, jobs_from
from advunlearn.options import ConfigError


def runs_of(*words: str) -> list[list[str]]:
    return [job.overrides for job in jobs_from(["attack=threshold", *words])]


def test_a_method_without_the_option_runs_once_and_the_other_with_each_value() -> None:
    words = ["unlearner=sg,finetune", "~unlearner.alpha=1,3"]
    found = [[word for word in run if word != "attack=threshold"] for run in runs_of(*words)]
    sg = [["unlearner=sg", f"unlearner.alpha={alpha}"] for alpha in (1, 3)]
    assert found == [*sg, ["unlearner=finetune"]]
    assert check_sweep(["attack=threshold", *words])[1] == 3


def test_the_runs_have_the_values() -> None:
    jobs = jobs_from(["unlearner=sg,finetune", "~unlearner.alpha=1,3", "~unlearner.epochs=2", "attack=threshold"])
    unlearners: list[Any] = [job.experiment.unlearner for job in jobs]
    found = [(getattr(unlearner, "alpha", None), unlearner.epochs) for unlearner in unlearners]
    assert found == [(1.0, 2), (3.0, 2), (None, 2)]


def test_an_auditor_and_its_options_in_any_order() -> None:
    found = runs_of("unlearner=sg,finetune", "~auditor.references=4", "~auditor=svm,likelihood_ratio")
    assert [[word.rpartition(".")[2] for word in run if "auditor" in word] for run in found] == [
        ["auditor=svm"],
        ["references=4", "auditor=likelihood_ratio"],
        [],
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["unlearner=sg,finetune", "~unlearner.alfa=1,3"], "~unlearner.alfa: no such option of any of these runs"),
        (["unlearner=sg,finetune", "~unlearner.alpha=3,-1"], "unlearner.alpha must be at least 0, got -1"),
        (["unlearner=sg,finetune", "unlearner.alpha=1,3"], "unlearner.alpha: no such option"),
    ],
)
def test_a_mistake_is_reported(words: list[str], problem: str) -> None:
    for function in (jobs_from, check_sweep):
        with pytest.raises(ConfigError) as caught:
            function([*words, "attack=threshold"])
        assert [line for line in caught.value.problems if line.startswith(problem)]


def test_only_a_plain_sweep_leaves_out_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="only a plain sweep"):
        experiment_from(["~unlearner.alpha=1"])
    for words in (["-m", "hydra/sweeper=basic", "hydra.sweep.dir=x"], ["--help"], []):
        assert main(["run", *words, "~unlearner.alpha=1"]) == 2
        assert "only a plain sweep (advunlearn run -m) or submit leaves out" in capsys.readouterr().err


def test_without_a_value_it_still_takes_an_option_out() -> None:
    assert list(experiment_from(["~attack.lira"]).attacks) == ["threshold", "classifier"]
