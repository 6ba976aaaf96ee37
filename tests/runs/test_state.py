"""One file that cannot be read is reported by its name, and stops nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.state import state_of
from advunlearn.storage.files import write_json

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(200))


def be_a_list(path: Path) -> None:
    path.write_text("[1, 2]", encoding="utf-8")


def be_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


Damage = Callable[[Path], None]
DAMAGES = [empty, cut, garble, be_a_list, be_a_pipe, be_a_folder]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sweep of three completed runs, whose store is kept for the tests that do one of them again."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("state")
        patch.setenv("ADVUNLEARN_CACHE", str(root / "cache"))
        for number in range(3):
            advunlearn.run([*QUICK, f"seed={number}"], root / "sweep" / str(number))
    return root


@pytest.fixture
def sweep(whole: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(whole / "cache"))
    return Path(shutil.copytree(whole / "sweep", workplace / "sweep"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json"])
def test_a_damaged_file_of_a_run_is_named_and_the_others_are_shown(
    sweep: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = {number: damage for number, damage in enumerate(DAMAGES, start=3)}
    for number, damage in damaged.items():
        shutil.copytree(sweep / "1", sweep / str(number))
        damage(sweep / str(number) / name)
        assert state_of(sweep / str(number)).name == "damaged"
    assert main(["status", str(sweep)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert ["damaged" in line for line in lines[:9]] == [number in damaged for number in range(9)]
    assert all(f"damaged: {name}: " in lines[number] for number in damaged)
    assert {"3 completed", "6 damaged"} == set(lines[9].removeprefix("runs: ").split(", "))
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr().out
    for number in damaged:
        assert f"no result: {sweep / str(number)} (seed=1, damaged: {name}: " in said
    assert len(said.splitlines()[0].split()) > 3  # the table of the others


@pytest.mark.parametrize(("name", "damage"), [("manifest.json", empty), ("metrics.json", cut)])
def test_a_damaged_run_of_a_sweep_is_done_again_and_so_are_the_others(
    sweep: Path, whole: Path, name: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(sweep / "0" / name)
    shutil.rmtree(sweep / "2")
    (sweep / "2").mkdir()
    shutil.copy(whole / "sweep" / "2" / "config.yaml", sweep / "2")
    assert main(["resume", str(sweep)]) == 0
    assert f"{sweep / '0'}: {name}: not valid JSON" in caplog.text
    for number in range(3):
        assert state_of(sweep / str(number)).name == "completed"
        assert read(sweep / str(number) / "metrics.json") == read(whole / "sweep" / str(number) / "metrics.json")
    (attempt,) = read(sweep / "0" / "manifest.json")["attempts"]
    assert attempt["status"] == "damaged"
    assert (sweep / "0" / "manifest.damaged.json").exists() == (name == "manifest.json")


def test_a_run_whose_config_is_no_config_is_one_line_and_the_others_are_done(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "2" / "manifest.json").unlink()
    wrong = {3: "", 4: "- a list", 5: "{", 6: "\tseed: 1", 7: "attack: 3"}
    for number, text in wrong.items():
        (sweep / str(number)).mkdir()
        (sweep / str(number) / "config.yaml").write_text(text)
    shutil.copytree(sweep / "2", sweep / "8")
    assert main(["resume", str(sweep)]) in (1, 2)
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert all(any(line.startswith(f"error: {sweep / str(number)}: ") for line in errors) for number in wrong), errors
    assert "Traceback" not in said
    assert [state_of(sweep / number).name for number in "28"] == ["completed"] * 2
    assert main(["report", str(sweep)]) == 0


def test_a_run_without_a_config_is_named_and_not_passed_over(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "1" / "config.yaml").unlink()
    (sweep / "1" / "manifest.json").write_text('{"status": "running", "error": null}')
    assert main(["resume", str(sweep)]) == 1
    assert f"error: {sweep / '1'}: {sweep / '1' / 'config.yaml'}: No such file" in capsys.readouterr().err


def test_a_damaged_record_of_what_was_sent_to_slurm_hides_no_run(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "sweep.json").write_text("{")
    (sweep / "1" / "job.json").write_text("")
    assert main(["status", str(sweep)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"{sweep / 'sweep.json'}: not valid JSON")
    assert "runs: 3 completed" in said.out
    assert main(["submit", "--retry", str(sweep)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {sweep / 'sweep.json'}: not valid JSON")


def test_a_run_of_another_version_is_not_done_over(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(sweep / "1" / "manifest.json", {"status": "paused", "error": None})
    before = (sweep / "1" / "manifest.json").read_bytes()
    assert main(["resume", str(sweep)]) == 1
    assert f"{sweep / '1'}: manifest.json: made by another version" in capsys.readouterr().err
    assert (sweep / "1" / "manifest.json").read_bytes() == before


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("damage", [empty, garble])
def test_damaged_scores_cost_the_pictures_and_not_the_report(
    sweep: Path, damage: Damage, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    damage(sweep / "1" / "scores.npz")
    assert main(["report", str(sweep / "1")]) == 0
    assert "attack AUC" in capsys.readouterr().out
    assert f"the report has no pictures ({sweep / '1' / 'scores.npz'}: " in caplog.text


def test_the_numbers_of_a_run_with_a_damaged_manifest_are_printed(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty(sweep / "1" / "manifest.json")
    assert main(["report", str(sweep / "1")]) == 2
    said = capsys.readouterr()
    assert "attack AUC" in said.out
    assert said.err.startswith(f"error: {sweep / '1' / 'manifest.json'}: not valid JSON")


def test_a_run_that_was_killed_between_its_first_two_files_can_be_resumed(
    whole: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the run wrote first, and also if only Hydra has written its config."""
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(whole / "cache"))
    order: list[list[str]] = []

    class Killed(BaseException):
        pass

    def kill(manifest: Manifest) -> None:
        order.append(sorted(path.name for path in manifest.folder.iterdir() if path.suffix in (".json", ".yaml")))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", kill)
        with pytest.raises(Killed):
            advunlearn.run([*QUICK, "seed=1"], "api")
        with pytest.raises(Killed):
            main(["run", *QUICK, "seed=1", "hydra.run.dir=command"])
    assert order == [["config.yaml"], ["config.yaml"]]
    (workplace / "hydra").mkdir()
    shutil.copytree("command/.hydra", "hydra/.hydra")
    for folder in ("api", "command", "hydra"):
        shutil.rmtree(Path(folder) / ".running", ignore_errors=True)
        (Path(folder) / ".running").unlink(missing_ok=True)
        assert state_of(Path(folder)).name == "waiting"
        assert main(["resume", folder]) == 0
        assert read(Path(folder) / "metrics.json") == read(whole / "sweep" / "1" / "metrics.json")
