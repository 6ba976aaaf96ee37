"""The same command again is answered from its finished run, and only the same one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advunlearn.cli import again, main
from advunlearn.cli.again import command_key, remember
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.storage.files import file_digest
from tests.report.runs import config, metrics, write

HEAVY = {"torch", "scipy", "sklearn", "matplotlib", "pandas"}
# Verbs that only read, with what they need besides the standard library. The last three are about a finished run.
LIGHT = [
    ["--help"],
    ["--version"],
    ["-V"],
    ["list"],
    ["list", "attack"],
    ["completion", "words", "advunlearn run unlearner.a"],
    ["store", "ls"],
    ["status", "sweep"],
    ["run", "--help"],
    ["resume", "first"],
    ["resume", "sweep/0"],
    ["run", "seed=3"],
]


EACH = f"""
import sys
from advunlearn.cli import main
for words in {LIGHT}:
    try:
        status = main(words)
    except SystemExit as end:  # Hydra's help
        status = end.code
    heavy = {HEAVY} & set(sys.modules)
    assert not (status or heavy), (words, status, heavy)
    assert words[0] not in ("list", "completion") or not {{"numpy", "hydra", "omegaconf"}} & set(sys.modules)
"""


def finished(folder: Path, words: list[str]) -> Path:
    """Write a finished run, and note that this command made it."""
    write(folder, config(seed=3), metrics({"lira": 0.1}))
    manifest: Any = read_manifest(folder)
    manifest["choices"] = {"dataset": "digits", "unlearner": "sg"}
    manifest["checksums"] = {"metrics.json": file_digest(folder / "metrics.json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "report.html").write_text("the page")
    remember(command_key(words), folder)
    return folder


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command that is not answered end with status 9."""
    monkeypatch.setattr("advunlearn.cli.run._check", lambda _: [])
    monkeypatch.setattr("advunlearn.cli.run._start_hydra", lambda *_: 9)


@pytest.mark.usefixtures("nothing_runs")
def test_the_same_command_has_the_finished_results_in_a_folder_of_its_own(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finished(workplace / "first", ["seed=3"])
    assert main(["run", "seed=3"]) == 0
    output = capsys.readouterr()
    assert f"the same command is finished in {first}, and not done again" in output.err
    (second,) = (workplace / "outputs" / "digits" / "sg").iterdir()
    assert f"report: {second.relative_to(workplace)}/report.html" in output.out
    assert state_of(second).name == "completed"
    for name in ("metrics.json", "report.html"):
        assert (second / name).samefile(first / name)
    assert (second / "config.yaml").read_text() == (first / "config.yaml").read_text()
    assert (read_manifest(second) or {})["overrides"] == ["seed=3"]
    assert main(["run", "seed=3", "hydra.run.dir=here"]) == 0
    assert (workplace / "here" / "metrics.json").is_file()
    assert main(["run", "hydra.run.dir=here", "seed=3"]) == 2  # never over another run
    assert main(["run", "seed=4"]) == 9


@pytest.mark.usefixtures("nothing_runs")
def test_results_that_changed_or_are_gone_are_not_shown(workplace: Path) -> None:
    first = finished(workplace / "first", ["seed=3"])
    (first / "metrics.json").write_text("{}")
    assert main(["run", "seed=3"]) == 9
    (first / "metrics.json").unlink()
    assert main(["run", "seed=3"]) == 9


def test_the_key_of_a_command_changes_with_a_file_that_it_names(workplace: Path) -> None:
    words = ["dataset=npz", "dataset.path=mine.npz", "forget.path=rows"]
    assert command_key(words) is None  # no such file: the run itself tells so
    Path("rows").mkdir()
    keys = []
    for size in (1, 2):
        np.savez("mine.npz", labels=np.zeros(size))
        keys.append(command_key(words))
        assert keys[-1] == command_key([*words, "hydra.run.dir=elsewhere"])
    Path("rows/more").write_text("1", encoding="utf-8")
    keys.append(command_key(words))
    assert None not in keys
    assert len({json.dumps(key) for key in keys}) == 3


def test_the_key_of_a_command_changes_with_the_code_the_versions_and_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    before = command_key(["seed=3"])
    assert before is not None
    for name in ("_digest", "_version", "_gpus"):
        with monkeypatch.context() as patch:
            patch.setattr(again, name, lambda _=None: ["other"])
            assert command_key(["seed=3"]) not in (before, None)


@pytest.mark.parametrize(
    "word",
    [
        "-m",
        "--cfg",
        "unlearner._target_=mine.Method",
        "model.factory=mynet:Net",
        "dataset.load=mine.load",
        "dataset=huggingface",
        "model.pretrained=true",
        "tensorboard=true",
        "hydra/launcher=slurm",
        "+hydra.job.chdir=true",
        "unlearner.base={_target_:mine.Method}",
        "dataset.path=${oc.env:HOME}",
    ],
)
def test_a_command_whose_result_may_depend_on_more_has_no_key(word: str) -> None:
    assert command_key(["seed=3"]) is not None
    assert command_key(["seed=3", word]) is None


def test_what_only_reads_imports_nothing_heavy(workplace: Path) -> None:
    """One process for all of them: it imports what any of them imports."""
    finished(workplace / "first", ["seed=3"])
    write(workplace / "sweep" / "0", config(), metrics({"lira": 0.1}))
    done = subprocess.run([sys.executable, "-c", EACH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the same command is finished in" in done.stderr
