"""The table of several runs in four formats."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import FORMATS, tex
from advunlearn.report.summary.runs import Summary, summarise
from tests.report.runs import config, metrics, write

HOSTILE = r"a_b&c%d$e#f{g}h~i^j\k|l<m>"


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    for seed, gap in enumerate((0.19, 0.21)):
        done = metrics({"lira": gap, "mia_efficacy": 0.0}, time=0.5 + seed, references=2.0)
        write(tmp_path / str(seed), config(seed, unlearner__alpha=HOSTILE), done)
    write(tmp_path / "2", config(2, unlearner__alpha=0.0), metrics({"lira": 1 / 3, "mia_efficacy": 0.0}))
    write(tmp_path / "3", config(3, unlearner__alpha=0.0), None, "failed", f"ValueError: {HOSTILE}")
    return summarise(find_runs([tmp_path]))


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_lists_what_failed_and_why(summary: Summary, style: str) -> None:
    lines = [line for line in FORMATS[style](summary).splitlines() if str(summary.missing[0].folder) in line]
    assert len(lines) == 1
    assert "failed" in lines[0]
    assert "ValueError: a_b" in lines[0]


def test_the_terminal_and_the_document_say_mean_and_interval(summary: Summary) -> None:
    half = 12.7062 * 0.01  # of two values that lie 0.01 off their mean
    for style in ("text", "markdown"):
        (line,) = (line for line in FORMATS[style](summary).splitlines() if "unlearned" in line and "a_b" in line)
        assert f"0.200 ± {half:.3f}" in line
        assert "1.00 [0.00, 7.35]" in line  # 1.00 ± 6.35 would be a time below zero
    markdown = FORMATS["markdown"](summary).splitlines()
    head, rule, *rows = (line for line in markdown if line.startswith("|"))
    assert {line.replace(r"\|", "").count("|") for line in (head, rule, *rows)} == {head.count("|")}


def test_the_csv_holds_numbers_as_they_are(summary: Summary) -> None:
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](summary))))
    of = {(each["unlearner.alpha"], each["model"], each["attack"], each["metric"]): each for each in lines}
    alone = of["0.0", "unlearned", "lira", "gap"]
    assert float(alone["mean"]) == 1 / 3
    assert (alone["low"], alone["high"], alone["n"], alone["seeds"]) == ("", "", "1", "2")
    two = of[HOSTILE, "unlearned", "lira", "gap"]
    assert float(two["mean"]) == pytest.approx(0.2)
    assert float(two["high"]) - float(two["low"]) == pytest.approx(2 * 12.7062 * 0.01, rel=1e-5)
    assert (two["n"], two["seeds"], two["state"]) == ("2", "0 1", "completed")
    (failed,) = (each for each in lines if each["state"] != "completed")
    assert (failed["state"], failed["error"], failed["seeds"]) == ("failed", f"ValueError: {HOSTILE}", "3")
    assert failed["mean"] == ""


def test_tex_is_escaped_and_every_line_has_its_columns(summary: Summary) -> None:
    source = FORMATS["latex"](summary)
    (spec,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", source)
    body = [line for line in source.splitlines() if line.endswith(r" \\") and not line.startswith(r"\multicolumn")]
    for line in body[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == len(spec) - 1
    assert r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textbar{}l" in source
    assert "not in the table: 1." in source


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_tex_compiles(summary: Summary, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(FORMATS["latex"](summary))
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table.tex}\end{document}"
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout


def test_without_a_result_there_is_no_table(tmp_path: Path) -> None:
    write(tmp_path / "0", config(), None, "failed", "ValueError: no")
    summary = summarise(find_runs([tmp_path]))
    assert FORMATS["text"](summary) == f"no result: {tmp_path / '0'} (seed=0, failed: ValueError: no)"
    for style in FORMATS:
        assert "ValueError: no" in FORMATS[style](summary)


def test_tex_of_plain_words_is_themselves() -> None:
    assert tex("lira 0.5, alpha=3") == "lira 0.5, alpha=3"
