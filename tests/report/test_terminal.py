"""The tables of runs fit the terminal: how much of a table there is depends on its width, and nothing else does."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from advunlearn.cli import main
from advunlearn.report.plain_text import align, blocks, wrapped
from advunlearn.report.run.table import rows
from advunlearn.report.run.terminal import comparison_table, model_table
from advunlearn.runtime.logs import log_to_terminal
from advunlearn.runtime.progress import progress
from advunlearn.runtime.terminal import asked, remark, table_width
from tests.report.runs import config, metrics, write

GAPS = {"threshold": 0.1, "threshold/entropy": 0.2, "lira": 0.3}


@pytest.fixture(autouse=True)
def asked_as_before() -> Any:
    yield
    asked.wide = asked.quiet = False


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_narrow_table_has_the_numbers_of_the_whole_one(width: int) -> None:
    found = metrics(GAPS)
    whole, narrow = comparison_table(found), comparison_table(found, width)
    assert max(map(len, whole.splitlines())) > 120
    assert max(map(len, narrow.splitlines())) <= width
    for row in rows(found):
        if "/" not in row.name:
            lines = [line for line in narrow.splitlines() if line.strip().startswith(row.name)]
            values = [value.partition(" ")[0] if width == 60 else value for value in row.values]
            assert any(all(value in line for value in (*values, row.gap)) for line in lines), row
    assert ("threshold/entropy" in narrow) == (width >= 100)
    assert "--wide prints" in narrow
    assert "--wide" not in whole
    assert max(map(len, model_table(found["models"]["original"], width).splitlines())) <= width


def test_what_a_narrow_table_leaves_out_is_counted() -> None:
    last = comparison_table(metrics(GAPS), 80).splitlines()[-1]
    assert last == "--wide prints what each number was computed on, and 1 further rows"


def test_blocks_have_every_cell_once_and_begin_with_the_names() -> None:
    table = [["name", *(f"column {number}" for number in range(9))], ["a row", *map(str, range(9))]]
    assert blocks(table, 1, None) == align(table)
    assert blocks(table, 1, 200) == align(table)
    assert blocks([], 1, 80) == []
    for width in (30, 40, 60):
        lines = blocks(table, 1, width)
        assert max(map(len, lines)) <= width
        heads, values, gaps = lines[0::3], lines[1::3], lines[2::3]
        assert re.findall(r"column \d", "\n".join(heads)) == table[0][1:]
        assert [cell for line in values for cell in line.removeprefix("a row").split()] == table[1][1:]
        assert all(line.startswith("name") for line in heads)
        assert set(gaps) == {""}
    assert blocks(table, 1, 5)[0].split() == ["name", "column", "0"]  # a block has a column, however narrow it is


def test_wrapped_lines_keep_their_words() -> None:
    text = "one two three four five"
    assert wrapped([text, ""], None) == [text, ""]
    assert wrapped([text, ""], 13) == ["one two three", "  four five", ""]


def test_the_width_is_that_of_columns_or_any_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "__stdout__", None)
    assert table_width() is None
    monkeypatch.setenv("COLUMNS", "90")
    assert table_width() == 90
    asked.wide = True
    assert table_width() is None


def test_wide_is_a_flag_of_every_verb(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = write(workplace / "run", config(), metrics(GAPS))

    def width(*words: str) -> int:
        assert main(words) == 0
        return max(map(len, capsys.readouterr().out.replace(str(run), "run").splitlines()))

    assert width("resume", "run") <= 80
    assert width("resume", "run", "--wide") == width("--wide", "resume", "run") > 120


def test_quiet_has_no_remarks_and_no_progress_but_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("advunlearn.runtime.progress._is_terminal", lambda: True)
    for quiet in (False, True):
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        asked.quiet = quiet
        assert progress([1], "work").disable == quiet
        capsys.readouterr()
        log_to_terminal()
        remark("a remark\n")
        logging.getLogger("advunlearn.test").setLevel(logging.INFO)
        logging.getLogger("advunlearn.test").info("a line")
        logging.getLogger("advunlearn.test").warning("a warning")
        shown = capsys.readouterr().err
        assert [word in shown for word in ("a remark", "a line", "a warning")] == [not quiet, not quiet, True]


def test_one_column_of_a_wide_table_continues_below() -> None:
    rows = [("1", "one two three four five six", "9 s"), ("22", "seven", "10 s")]
    assert align(rows, right=(0, 2), fold=1, width=30) == [
        " 1  one two three four   9 s",
        "    five six",
        "22  seven               10 s",
    ]
    for width in (None, 200):
        assert align(rows, right=(0, 2), fold=1, width=width) == align(rows, right=(0, 2))
