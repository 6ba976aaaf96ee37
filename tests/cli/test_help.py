"""The help of each verb."""

from __future__ import annotations

import contextlib

import pytest

from advunlearn.cli import VERBS, main
from advunlearn.cli.parser import wrapped
from advunlearn.runtime.terminal import FLAGS

SAME_AS_RUN = {"unlearn"}
LISTED = [["--help"], *([verb, "--help"] for verb in VERBS if verb not in SAME_AS_RUN)]


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with contextlib.suppress(SystemExit):  # argparse's end
        assert main(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", LISTED, ids=" ".join)
def test_help_fits_eighty_columns_and_names_the_flags_of_every_verb(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(words, capsys)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert all(flag in text for flag in FLAGS)


def test_every_verb_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {line.split()[0] for line in help_of(["--help"], capsys).splitlines() if line.startswith("  ")}
    assert set(VERBS) <= listed


def test_paragraphs_are_wrapped_and_examples_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    assert wrapped("one two\nthree\n\n  an example line\n") == "one two\nthree\n\n  an example line"
    assert wrapped("one two three") == "one two\nthree"
