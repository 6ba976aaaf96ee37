"""`advunlearn describe`: every option of every shipped part, with what a user needs to set it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class

from advunlearn.cli import main
from advunlearn.storage.paths import config_folder

FILES = sorted(path for path in config_folder().glob("[a-g,i-z]*/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_every_option_has_a_default_and_a_meaning(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", path.parent.name, path.stem]) == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 or "https://" in line for line in text.splitlines())
    node = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    assert ("\nclass advunlearn." in text) == ("_target_" in node)
    if "_target_" not in node:
        return
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("  ")]
    found = {block[0].split(" = ")[0].strip(): block for block in blocks}
    fields = dataclasses.fields(get_class(node["_target_"]))  # type: ignore[arg-type]
    assert list(found) == [field.name for field in fields]  # inherited ones as well
    for field in fields:
        head, *described = found[field.name]
        if field.name in node:
            assert yaml.safe_load(head.split(" = ")[1]) == node[field.name]
        assert len(described) >= (1 if field.type == "Any" else 2), head  # its type or range, and its meaning
    assert "references:\n  " in text


def test_ranges_types_and_references_are_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "unlearner", "sg"]) == 0
    text = capsys.readouterr().out
    assert "  momentum = 0.9\n      a number, at least 0 and less than 1\n" in text
    assert "  optimizer_state = shared\n      one of shared, separate\n" in text
    assert "  auditor = svm (see: advunlearn describe auditor svm)\n" in text
    assert text.endswith("equation leaves out)\n")
    assert main(["describe", "attack", "lira"]) == 0
    assert "options, typed as attack.lira.NAME=VALUE:" in capsys.readouterr().out


def test_a_group_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for verb in ("describe", "list"):
        assert main([verb, "unlearner"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["unlearner", "sgg"], "unlearner=sgg: no such option; choose one of "),
        (["unlerner"], "unlerner: no such group; choose one of attack, auditor, dataset"),
        (["unlearner", "--config-dir", "no"], "--config-dir no: no such folder"),
    ],
)
def test_a_wrong_name_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")
    assert "no such folder" in said or line.endswith(("(did you mean sg?)", "(did you mean unlearner?)"))
