"""Names of files and folders as people have them, and what Hydra's grammar makes of them."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import advunlearn
from advunlearn.cli import main
from advunlearn.config import composer
from advunlearn.config.compose import check_sweep, experiment_from, hydra_words, jobs_from, named_folder
from advunlearn.options import ConfigError

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]
FOLDERS = ["My Drive (2)", "projet été", "a,b", "a=b", "q\"uo'te", "50% [x] {y}", "日本 #1", "a${b}", "back\\slash\\"]
NAMES = [
    "été.npz",
    "a b.npz",
    "x(1).npz",
    "[x].npz",
    "a=b.npz",
    "a#b&c;d!.npz",
    "it's.npz",
    "日本.npz",
    "{a}.npz",
    "\\.npz",
]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_own_options_may_have_any_name(workplace: Path, name: str) -> None:
    (workplace / name / "unlearner").mkdir(parents=True)
    text = "_target_: advunlearn.unlearners.finetune.Finetune\nepochs: 7\n"
    (workplace / name / "unlearner" / "mine.yaml").write_text(text, encoding="utf-8")
    experiment = experiment_from(["unlearner=mine"], name)
    assert vars(experiment.unlearner)["epochs"] == 7


def test_a_run_finds_options_in_such_a_folder(workplace: Path) -> None:
    (workplace / "projet été (2)" / "unlearner").mkdir(parents=True)
    text = "_target_: advunlearn.unlearners.finetune.Finetune\nepochs: 1\n"
    (workplace / "projet été (2)" / "unlearner" / "mine.yaml").write_text(text, encoding="utf-8")
    words = ["--config-dir", "projet été (2)", "unlearner=mine", "optimizer.epochs=1", "attack=threshold"]
    assert main(["run", *words, "hydra.run.dir=out (1)"]) == 0
    assert (workplace / "out (1)" / "metrics.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(workplace: Path, name: str) -> None:
    (workplace / "d").mkdir()
    images, labels = np.zeros((80, 8, 8), np.uint8), np.arange(80) % 4
    with (workplace / "d" / name).open("wb") as file:
        np.savez(file, images=images, labels=labels)
    (job,) = jobs_from(["dataset=npz", f"dataset.path=d/{name}"])
    assert vars(job.experiment.dataset)["path"] == f"d/{name}"
    assert job.experiment.dataset.info().train == 80


def test_a_home_folder_is_found(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workplace))
    (workplace / "rows.txt").write_text("1\n2\n", encoding="utf-8")
    assert len(experiment_from(["forget=indices", "forget.path=~/rows.txt"]).forget.required_rows()) == 2


@pytest.mark.parametrize("text", ["été (1)", "a,b", "[x", "${seed}x", "it's"])
def test_a_text_given_in_python_is_that_text(text: str) -> None:
    part = (torch.zeros(4, 2), torch.arange(4) % 2)
    with pytest.raises(ConfigError) as caught:
        advunlearn.unlearn(torch.nn.Linear(2, 2), retain=part, forget=part, audit=part, base=text)
    (line,) = caught.value.problems
    assert line.startswith("base must be one of ")
    assert line.endswith(f", got {text.replace('${seed}', '0')}")


def test_words_that_hydra_reads_stay_as_they_are() -> None:
    words = [
        "dataset.path=a b.npz",
        "dataset.path=a,b",
        "dataset.path='é'",
        "forget.path=null",
        "x=é",
        "hydra.run.dir=1",
    ]
    assert hydra_words(words) == words


@pytest.mark.parametrize("word", ["hydra.sweep.dir=x/${now:%Y}", "hydra.run.dir=x/${now:%Y}/é (1)"])
def test_a_folder_for_results_is_resolved(word: str) -> None:
    year = str(datetime.date.today().year)
    assert named_folder(*hydra_words([word])) == Path(word.partition("=")[2].replace("${now:%Y}", year))


def test_a_sweep_is_run_in_its_resolved_folder(workplace: Path) -> None:
    assert main(["run", "-m", "hydra.sweep.dir=é (1)/${now:%Y}", "seed=1", *QUICK]) == 0
    assert [path.name for path in (workplace / "é (1)").iterdir()] == [str(datetime.date.today().year)]
    assert main(["run", "hydra.run.dir=é (2)/${now:%Y}", "seed=1", *QUICK]) == 0
    assert len(list((workplace / "é (2)").glob("20*/metrics.json"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=npz", "dataset.path=a,b.npz"], """a text with a comma is 'dataset.path="a,b.npz"')"""),
        (["device=gpü"], """typed with two kinds of quotes, 'device="gpü"'"""),
        (["dataset=cifar11", "dataset.path=x"], "dataset=cifar11: no such option"),
        (["seed=[1,2"], "seed=[1,2: cannot be read"),
        (["dataset=npz", "dataset.path=d/\udce9.npz"], "d/\\udce9.npz': not valid UTF-8"),
        (["hydra.sweep.dir=${nope:}", "-m"], "hydra.sweep.dir=${nope:}: Unsupported interpolation type nope"),
    ],
)
def test_what_cannot_be_read_is_reported_once(
    workplace: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["run", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("multirun", [[], ["-m", "hydra.sweep.subdir=x"]])
def test_hydra_prints_no_line_above_ours(
    workplace: Path, capsys: pytest.CaptureFixture[str], multirun: list[str]
) -> None:
    assert main(["run", "hydra.run.dir=out", "hydra.sweep.dir=out", "budget=0s", *multirun, *QUICK]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "rror" in line] == [lines[-1]]
    assert lines[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("word", "runs"),
    [
        ("seed=range(0,1e9)", "1,000,000,000 runs"),
        ("seed=shuffle(range(0,1e12))", "1,000,000,000,000 runs"),
        ("seed=int(range(0,1e9,2))", "500,000,000 runs"),
        ("seed=range(0,1001)", "1,001 runs"),
        ("seed=range(0,10,0)", "an endless number of runs"),
        ("seed=range(0,inf)", "an endless number of runs"),
    ],
)
@pytest.mark.parametrize("verb", [["check", "-m"], ["run", "-m"], ["submit"]])
def test_a_sweep_is_counted_before_it_is_made(
    workplace: Path, capsys: pytest.CaptureFixture[str], verb: list[str], word: str, runs: str
) -> None:
    assert main([*verb, word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: this sweep has {runs}, and at most 1,000 are allowed")


def test_combinations_count_and_the_limit_can_be_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["seed=range(0,26)", "experiment=game_twin"]
    with pytest.raises(ConfigError, match=r"has 26,000 runs, .*\(try ADVUNLEARN_MAX_RUNS=26000 in the environment\)"):
        check_sweep(["seed=range(0,26)", "optimizer.lr=range(1,1001)"])
    monkeypatch.setenv("ADVUNLEARN_MAX_RUNS", "100")
    with pytest.raises(ConfigError, match="at most 100 are allowed"):
        check_sweep(words)
    monkeypatch.setenv("ADVUNLEARN_MAX_RUNS", str(4 * 4 * 26))
    assert check_sweep(words)[1] == 4 * 4 * 26  # four auditors, four values of alpha


def test_the_runs_of_a_sweep_share_what_hydra_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing each by itself took 67 s for a thousand runs."""
    calls: list[object] = []
    composed = composer.compose
    monkeypatch.setattr(composer, "_INSTALLED", {})
    monkeypatch.setattr(composer, "compose", lambda *words, **flags: calls.append(words) or composed(*words, **flags))
    assert check_sweep(["seed=0,1", *QUICK])[1] == 2
    few = len(calls)
    assert check_sweep(["seed=range(0,200)", *QUICK])[1] == 200
    assert len(calls) <= 2 * few
