"""`advunlearn unlearn` and `advunlearn audit`, for a model that is trained already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from advunlearn.cli import main

SMALL = ["dataset.train_size=60", "optimizer.epochs=2", "attack=threshold", "device=cpu"]


@pytest.fixture
def trained(workplace: Path, capfd: pytest.CaptureFixture[str]) -> Path:
    """Give the folder of a finished run, whose original and unlearned model can be used."""
    assert main(["run", *SMALL, "unlearner=neggrad", "unlearner.epochs=1", "hydra.run.dir=first"]) == 0
    capfd.readouterr()
    return workplace / "first"


def test_an_audit_attacks_the_model_that_it_is_given(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--folder", "found", *SMALL, f"original.path={trained / 'original.safetensors'}"]) == 0
    printed = capfd.readouterr().out
    assert printed.splitlines()[1].split() == ["model", "computed", "on"]
    assert "written: found/audit.json" in printed
    found = json.loads(Path("found/audit.json").read_text(encoding="utf-8"))
    of_run = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))["models"]["original"]
    assert found["metrics"] == of_run
    assert len(found["model"]["sha256"]) == 64
    with np.load("found/scores.npz") as scores, np.load(trained / "scores.npz") as before:
        assert (scores["original/threshold"] == before["original/threshold"]).all()
    stages = json.loads(Path("found/manifest.json").read_text(encoding="utf-8"))["stages"]
    assert [stage["name"] for stage in stages] == ["data", "attack"]


def test_a_request_prints_where_the_weights_are(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*SMALL, "unlearner=neggrad", "unlearner.epochs=1", "hydra.run.dir=second"]
    assert main(["unlearn", *words, f"original.run={trained}"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("unlearned model: ")]
    assert Path(line.removeprefix("unlearned model: ")).stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["unlearn", *SMALL], "unlearn needs a trained model: original.path=model.pt, or original.run=RUN for the"),
        (["audit", *SMALL], "audit needs a trained model: original.path=model.pt, or original.run=RUN"),
        (["audit", "original.path=none.pt"], "original.path=none.pt: No such file or directory"),
        (["audit", "original.path=x", "attak=lira"], "attak"),
        (["unlearn", *SMALL, "original.path=null"], "unlearn needs a trained model"),
    ],
)
def test_what_lacks_a_model_is_refused_in_one_line(
    words: list[str], expected: str, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert any(expected in line for line in lines)
    assert not list(workplace.iterdir())


def test_audits_of_other_rows_are_other_audits(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = []
    for name, rows in (("a", range(0, 900, 20)), ("b", range(7, 900, 20))):
        Path(f"{name}.txt").write_text("\n".join(map(str, rows)), encoding="utf-8")
        words = ["forget=indices", f"forget.path={name}.txt", f"original.path={trained / 'original.safetensors'}"]
        assert main(["audit", "--folder", name, *SMALL, *words]) == 0
        found.append(json.loads(Path(name, "audit.json").read_text(encoding="utf-8"))["metrics"]["attacks"])
    assert found[0] != found[1]


def test_an_audits_folder_is_named_as_that_of_a_run_and_the_other_verbs_know_it(
    trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = f"original.path={trained / 'original.safetensors'}"
    assert main(["audit", *SMALL, weights, "forget.fraction=0.1", "hydra.run.dir=of/${forget.fraction}"]) == 0
    assert Path("of/0.1/audit.json").is_file()
    capfd.readouterr()
    assert main(["audit", *SMALL, weights, "hydra.run.dir=mine"]) == 0
    table = capfd.readouterr().out
    assert main(["report", "mine"]) == 0
    assert capfd.readouterr().out == table
    assert main(["resume", "mine"]) == 0
    assert capfd.readouterr().out == f"mine: completed already\n{table}"
    assert main(["status", "mine"]) == 0
    assert capfd.readouterr().out == "mine: completed\n"
    assert main(["audit", *SMALL, weights, "hydra.run.dir=mine"]) == 2
    assert capfd.readouterr().err == "error: mine already holds a run; choose another folder (hydra.run.dir=...)\n"
    assert main(["report", "."]) == 0
    printed = capfd.readouterr().out
    assert "no result: mine (" in printed
    assert "an audit of one model)" in printed


def test_an_audit_that_failed_is_resumed(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = f"original.path={trained / 'original.safetensors'}"
    assert main(["audit", *SMALL, weights, "--folder", "whole"]) == 0
    assert main(["audit", *SMALL, weights, "--folder", "broken"]) == 0
    manifest = json.loads(Path("broken/manifest.json").read_text(encoding="utf-8"))
    Path("broken/audit.json").unlink()
    Path("broken/manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}), encoding="utf-8")
    capfd.readouterr()
    assert main(["status", "broken"]) == 1
    assert capfd.readouterr().out == "broken: interrupted (again: advunlearn resume broken)\n"
    assert main(["resume", "broken"]) == 0
    assert Path("broken/audit.json").read_bytes() == Path("whole/audit.json").read_bytes()
    assert json.loads(Path("broken/manifest.json").read_text(encoding="utf-8"))["verb"] == "audit"


def test_words_for_the_unlearner_do_not_matter_to_an_audit(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["unlearner=sg", "unlearner.epochs=3", "auditor=logistic"]
    assert main(["audit", *SMALL[:2], *words, f"original.path={trained / 'original.safetensors'}"]) == 0
    assert "classifier" in capfd.readouterr().out
