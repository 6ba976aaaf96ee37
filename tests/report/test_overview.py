"""The page and the pictures of several runs."""

from __future__ import annotations

import os
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import FORMATS
from advunlearn.report.summary.page import render_overview, write_overview
from advunlearn.report.summary.pictures import draw_overview, gap_figure, time_figure, trace_figure, utility_figure
from advunlearn.report.summary.runs import summarise
from advunlearn.report.summary.verdict import comparisons, sentences
from tests.report.runs import config, metrics, write


def trace(length: int, level: float) -> dict:
    return {"step": list(range(length)), "auditor_accuracy": [level] * length, "base_loss": [level / 2] * length}


@pytest.mark.usefixtures("pictures")
def test_the_page_holds_verdict_table_pictures_and_what_is_missing(tmp_path: Path) -> None:
    for seed in range(3):
        done = metrics({"lira": 0.1 * seed, "rmia": 0.0}, trace=trace(4, 0.6))
        write(tmp_path / str(seed), config(seed), done)
    write(tmp_path / "3", config(3), None, "failed", "ValueError: <b>no</b>")
    summary = summarise(find_runs([tmp_path]))
    assert write_overview(summary, tmp_path).startswith(f"report: {tmp_path / 'report.html'}")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    assert not re.search(r"[$]|{[{%#]", re.sub(r'base64,[^"]*', "", page))  # no placeholder is left
    assert all(escape(sentence) in page for sentence in sentences(summary))
    assert '0.100<span class="interval">± 0.248</span>' in page
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in page
    assert str(tmp_path / "3") in page
    rows = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert rows is not None
    assert {row.count("<td") for row in rows[1].split("</tr>") if row.strip()} == {2 + len(summary.columns)}


def test_names_and_paths_are_text_and_not_html(tmp_path: Path) -> None:
    hostile = "<script>alert('&')"
    for seed, alpha in enumerate((hostile, "0")):
        write(
            tmp_path / hostile / str(seed), config(seed, unlearner__alpha=alpha), metrics({hostile: 0.1, "lira": 0.0})
        )
    write(tmp_path / hostile / "2", config(2, unlearner__alpha=hostile), None, "failed", hostile)
    summary = summarise(find_runs([tmp_path]))
    page = render_overview(summary, {name: b"" for name in ("gaps", "utility", "times", "traces")})
    assert "<script" not in page
    assert "alert('" not in page
    text = unescape(page)  # as a browser shows it
    for words in (f"gap of {hostile}, the strongest attack", f"alpha={hostile}", str(summary.missing[0].folder)):
        assert words in text
    assert text.count(f">{hostile}<") == 4  # cells: the attack's two columns, an option's value, and an error


def test_control_characters_are_shown_as_text(tmp_path: Path) -> None:
    write(tmp_path / "0", config(unlearner__alpha="\x1b[31m"), metrics({"lira": 0.1}))
    folder = tmp_path / os.fsdecode(b"\xff")  # not valid UTF-8
    write(folder, config(1), None, "failed", "ValueError: \x1b[2Jgone\x07")
    summary = summarise(find_runs([tmp_path]))
    write_overview(summary, tmp_path)
    pages = [(tmp_path / name).read_text() for name in ("report.html", "table.md")]
    for shown in (FORMATS["text"](summary), *pages):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown)
        assert r"ValueError: \x1b[2Jgone\x07" in shown
        assert r"\udcff" in shown
        assert r"\x1b[31m" in shown


def test_a_page_without_a_result_says_so(tmp_path: Path) -> None:
    write(tmp_path / "0", config(), None, "interrupted", "Interrupted")
    summary = summarise(find_runs([tmp_path]))
    assert draw_overview(summary) == {}
    page = render_overview(summary, {})
    assert "1 of 1 runs has no result." in page
    assert "interrupted" in page


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_gap_is_drawn_with_its_seeds(tmp_path: Path, seeds: int) -> None:
    gaps = np.random.default_rng(0).normal(0, 0.1, (seeds, 7))
    for seed in range(seeds):
        write(tmp_path / str(seed), config(seed), metrics({f"attack{n}": gap for n, gap in enumerate(gaps[seed])}))
    panels = [axes for axes in gap_figure(summarise(find_runs([tmp_path]))).axes if axes.get_visible()]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in panels] == [f"attack{n}" for n in range(7)]
    for column, axes in zip(gaps.T, panels, strict=True):
        drawn = {round(float(x), 12) for line in axes.lines for x in line.get_xdata()}
        assert {round(float(x), 12) for x in (*column, column.mean())} <= drawn
        low, high = axes.get_xlim()
        assert low < min(0, *column)
        assert high > max(0, *column)


def test_utility_marks_the_groups_the_original_and_the_retrained_model(tmp_path: Path) -> None:
    for alpha, gap in ((0.0, 0.2), (3.0, 0.05)):
        write(tmp_path / str(alpha), config(unlearner__alpha=alpha), metrics({"lira": gap}, test=0.9 - gap))
    axes = utility_figure(comparisons(summarise(find_runs([tmp_path])))).axes[0]
    points = {(round(float(line.get_xdata()[0]), 9), round(float(line.get_ydata()[0]), 9)) for line in axes.lines}
    assert {(0.7, 0.2), (0.85, 0.05), (0.96, 0.3), (0.95, 0.0)} <= points
    assert {text.get_text() for text in axes.texts} >= {"1", "2", "original", "retrained"}


def test_times_are_drawn_with_the_shared_models_on_top(tmp_path: Path) -> None:
    write(tmp_path / "0", config(), metrics({"lira": 0.1}, time=0.5, references=10.0))
    (axes,) = time_figure(summarise(find_runs([tmp_path])).groups).axes
    drawn = [float(x) for line in axes.lines for x in line.get_xdata()]
    assert {0.5, 10.5, 1.0} <= set(drawn)


def test_a_time_whose_interval_reaches_below_zero_keeps_its_place(tmp_path: Path) -> None:
    for seed, time in enumerate((0.1, 3.0)):
        write(tmp_path / str(seed), config(seed), metrics({"lira": 0.1}, time=time))
    (axes,) = time_figure(summarise(find_runs([tmp_path])).groups).axes
    low, high = axes.get_xlim()
    assert 0.05 < low < 0.1
    assert 3 < high < 6


def test_the_mean_trace_ends_where_the_shortest_does(tmp_path: Path) -> None:
    for seed, length in enumerate((5, 8)):
        write(tmp_path / str(seed), config(seed), metrics({"lira": 0.1}, trace=trace(length, 0.5 + 0.2 * seed)))
    figure = trace_figure(summarise(find_runs([tmp_path])).groups)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(line.get_ydata(), 0.6)
