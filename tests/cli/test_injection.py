"""Names and messages from files and folders of others are shown as text by every verb."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.report.run.page import write_report
from advunlearn.report.summary.formats import FORMATS
from advunlearn.storage.artefacts import Artefact
from advunlearn.storage.files import write_json
from advunlearn.storage.store import Store
from tests.conftest import own_unlearner
from tests.report.runs import config, metrics, write

ESCAPE = "\x1b[31mred\x1b]0;title\x07"
SHOWN = r"\x1b[31mred\x1b]0;title\x07"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]


TYPED = [
    [ESCAPE],
    *([verb, ESCAPE] for verb in ("report", "status", "resume", "list")),
    ["data", "fetch", ESCAPE],
    ["check", f"dataset={ESCAPE}"],
    ["check", f"{ESCAPE}=1"],
    ["run", f"seed={ESCAPE}"],
    ["run", f"--{ESCAPE}"],
]


@pytest.mark.parametrize("words", TYPED)
def test_what_was_typed_is_repeated_as_text(
    words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(words)
    except SystemExit as error:  # of argparse
        status = int(error.code or 0)
    said = capsys.readouterr()
    assert status == 2
    assert "\\x1b" in said.err
    assert not CONTROL.search(said.out + said.err)


@pytest.mark.parametrize("style", FORMATS)
def test_names_in_metrics_and_errors_in_manifests_are_text_in_every_format(
    style: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, alpha in enumerate((ESCAPE, "0")):
        write(workplace / "sweep" / ESCAPE / str(seed), config(seed, unlearner__alpha=alpha), metrics({ESCAPE: 0.1}))
    write(workplace / "sweep" / "2", config(2), None, "failed", f"ValueError: {ESCAPE}")
    assert main(["report", "sweep", "--format", style]) == 0
    said = capsys.readouterr()
    assert not CONTROL.search(said.out + said.err)
    assert said.out.count("[31mred") >= 3


def test_a_run_in_a_folder_with_such_a_name_is_shown_as_text(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advunlearn.run(QUICK, workplace / ESCAPE)
    for words in (["resume", ESCAPE], ["report", ESCAPE], ["status", "."]):
        main(words)
        said = capsys.readouterr()
        assert not CONTROL.search(said.out + said.err), words


def test_kinds_in_a_store_of_others_are_text(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store().get_or_make(ESCAPE, {}, lambda: Artefact({}, {}, {}))
    for words in (["store", "ls"], ["store", "prune", "--days", "0"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert SHOWN in said
        assert not CONTROL.search(said)


def test_a_method_that_fails_with_such_an_error_is_shown_as_text(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_unlearner(workplace, "hostile", f"raise RuntimeError({ESCAPE!r})")
    monkeypatch.syspath_prepend(str(workplace))
    assert main(["run", "--config-dir", "my", "unlearner=hostile", *QUICK[::2], "hydra.run.dir=run"]) == 1
    said = capsys.readouterr()
    assert f"error: RuntimeError: {SHOWN}" in said.err
    log = (workplace / "run" / "advunlearn.log").read_text(encoding="utf-8")
    assert SHOWN in log
    assert not CONTROL.search(said.err + log)


def test_a_page_shows_what_a_manifest_holds_as_text_or_refuses_it(workplace: Path) -> None:
    """The titles of the pictures too, which are HTML; and a value of another type is no error of the template."""
    run = advunlearn.run(QUICK, workplace / "run").folder
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    hostile = "<img src=x onerror=alert(1)>"
    write_json(
        run / "manifest.json",
        manifest | {"overrides": [hostile], "device_name": hostile, "versions": {hostile: hostile}},
    )
    assert hostile not in write_report(run).read_text(encoding="utf-8")
    for key in ("splits", "choices", "versions"):
        write_json(run / "manifest.json", manifest | {key: [hostile]})
        with pytest.raises(ValueError, match=f"made by another version of advunlearn, with {key} = "):
            write_report(run)
