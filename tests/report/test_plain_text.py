"""Tables for a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from advunlearn.cli import main
from advunlearn.options import one_line
from advunlearn.report.plain_text import align, printable
from advunlearn.storage.files import write_json


def test_columns_have_one_width_and_their_side() -> None:
    table = [("model", "auc", "on"), ("original", "0.5", ""), ("a", "10.25", "50 forget")]
    assert align(table, right=[1]) == [
        "model       auc  on",
        "original    0.5",
        "a         10.25  50 forget",
    ]
    assert align([]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.100 ± 0.2, été", "0.100 ± 0.2, été"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\t", r"two\nlines\t"),
        ("\u202eback", r"\u202eback"),
        ("\udcff", r"\udcff"),
        ("C:\\name's", "C:\\name's"),
    ],
)
def test_control_characters_become_text(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert printable(f"first\n{text}\n").replace("\n", r"\n") == rf"first\n{shown}\n"
    assert align([[text, "x"]]) == [f"{shown}  x"]


def test_the_status_of_a_sweep_shows_them_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = {"status": "failed", "error": "ValueError: \x1b[2Jgone", "overrides": ["a=\x1b[31m"], "seconds": 2.0}
    write_json(tmp_path / "0" / "manifest.json", manifest)
    write_json(tmp_path / "1" / "manifest.json", manifest | {"overrides": []})
    assert main(["status", str(tmp_path)]) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == r"0  a=\x1b[31m  2 s  failed: ValueError: \x1b[2Jgone"
    assert second == r"1              2 s  failed: ValueError: \x1b[2Jgone"
