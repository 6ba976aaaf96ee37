"""Pictures do not depend on how matplotlib is set up, and a report is complete without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.report.run.page import draw_pictures
from advunlearn.report.run.pictures import algorithm_figure
from advunlearn.report.summary.at_end import print_sweep_report
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.pictures import draw_overview
from advunlearn.report.summary.runs import summarise
from advunlearn.runs.state import state_of
from tests.report.runs import config, metrics, write

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold"]


def scores(attack: str) -> dict[str, np.ndarray]:
    members = np.arange(40) < 20
    return {
        "member": members,
        **{
            f"{model}/{name}": np.arange(40.0) + 1
            for model in ("original", "retrained", "unlearned")
            for name in (attack, "loss")
        },
    }


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_such_backend"])
def test_a_backend_that_is_not_installed_changes_nothing(tmp_path: Path, backend: str) -> None:
    """Any shell of a notebook sets it. matplotlib reads it once, when it is imported: a process of its own."""
    code = (
        "import os, sys; from advunlearn.report.drawing import drawing\n"
        "with drawing(): from matplotlib.figure import Figure; Figure().savefig(sys.argv[1])\n"
        f"assert os.environ['MPLBACKEND'] == {backend!r}"
    )
    environment = {**os.environ, "MPLBACKEND": backend}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], env=environment, check=True)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_settings_of_the_user_change_no_picture() -> None:
    plain = draw_pictures({}, scores("lira"))
    with matplotlib.rc_context({"text.usetex": True, "savefig.facecolor": "black", "figure.facecolor": "red"}):
        assert draw_pictures({}, scores("lira")) == plain


def test_questions_on_the_unlearner_have_a_curve_for_each_model() -> None:
    """Scores that separate all models rise at once; equal ones for both models lie on the diagonal; NaN has no part."""
    apart = np.stack([np.full((4, 10), 2.0), np.full((4, 10), 1.0)])
    equal = np.broadcast_to(np.linspace(0, 1, 10), (2, 4, 10))
    for ratios in (equal, np.where(np.arange(10) < 5, equal, np.nan)):
        found = dict(zip(("original", "retrained", "unlearned"), (apart, ratios, ratios), strict=True))
        asked = {f"algorithm/ulira/efficacy/{model}": each for model, each in found.items()}
        assert draw_pictures({}, {**scores("lira"), **asked}).keys() == {"roc", "losses", "algorithm"}
        (axes,) = algorithm_figure(asked, [("ulira", "efficacy")]).axes
        curves = {line.get_label(): np.array(line.get_xydata()) for line in axes.lines}
        least = 0.5 / np.isfinite(ratios[1]).sum()
        assert curves["original"][curves["original"][:, 0] <= least, 1].max() == 1
        on = curves["retrained"][curves["retrained"] > least].reshape(-1, 2)
        np.testing.assert_allclose(on[:, 0], on[:, 1])
        assert axes.get_title() == "ulira: efficacy"


@pytest.mark.parametrize("name", ["$\\frac{$", "a$b", "100 %", "\x1b[31m"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    assert draw_pictures({}, scores(name)).keys() == {"roc", "losses"}
    for seed, alpha in enumerate((name, "0")):
        write(tmp_path / str(seed), config(seed, unlearner__alpha=alpha), metrics({name: 0.1}))
    assert draw_overview(summarise(find_runs([tmp_path]))).keys() == {"gaps", "utility", "times"}


@pytest.mark.usefixtures("pictures")
def test_a_run_is_completed_without_pictures_and_they_are_drawn_later(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "matplotlib.style", None)  # an import of it raises ImportError
        broken.delattr(matplotlib, "style", raising=False)
        assert main(["run", *QUICK, "hydra.run.dir=run"]) == 0
        assert "the report has no pictures (ModuleNotFoundError" in capsys.readouterr().err
        assert main(["report", "run", "--out", "several"]) == 0
    assert state_of(workplace / "run").name == "completed"
    page = (workplace / "run" / "report.html").read_text()
    assert "side by side" in page
    assert "data:image" not in page
    assert "data:image" not in (workplace / "several" / "report.html").read_text()
    assert main(["report", "run"]) == 0
    assert (workplace / "run" / "report.html").read_text().count("data:image") == 3
    again = advunlearn.run(QUICK, workplace / "again")  # nothing was kept instead of the pictures
    assert (again.folder / "report.html").read_text().count("data:image") == 3


def test_tensorboard_that_is_broken_fails_no_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = advunlearn.run([*QUICK, "tensorboard=true"])
    assert state_of(result.folder).name == "completed"
    assert "nothing more is logged to tensorboard" in (result.folder / "advunlearn.log").read_text()


@pytest.fixture
def read_only(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a store on a read-only mount; what is in it can be changed under `writable`."""
    with tempfile.TemporaryDirectory() as folder:
        writable, mounted = Path(folder, "writable"), Path(folder, "mounted")
        writable.mkdir()
        mounted.mkdir()
        for options in ("bind", "remount,ro,bind"):
            done = subprocess.run(["mount", "-o", options, str(writable), str(mounted)], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no folder can be mounted here: {done.stderr.strip()}")
        try:
            yield mounted
        finally:
            subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.mark.usefixtures("pictures")
def test_a_store_that_may_only_be_read_is_enough_if_it_holds_everything(
    read_only: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(read_only.parent / "writable"))
    first = advunlearn.run(QUICK, workplace / "first")
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(read_only))
    second = advunlearn.run(QUICK, workplace / "second")
    assert state_of(second.folder).name == "completed"
    assert second.metrics == first.metrics
    assert "later runs will not find this one (" in (second.folder / "advunlearn.log").read_text()
    for path in (read_only.parent / "writable" / "store").glob("??/*/key.json"):
        if json.loads(path.read_text())["kind"] == "pictures":
            path.parent.rename(read_only.parent / "pictures")
    third = advunlearn.run(QUICK, workplace / "third")
    assert state_of(third.folder).name == "completed"
    assert (third.folder / "roc.png").read_bytes() == (first.folder / "roc.png").read_bytes()


def test_the_table_of_a_run_in_a_folder_that_may_only_be_read_is_printed(
    read_only: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advunlearn.run(QUICK, read_only.parent / "writable" / "0")
    capsys.readouterr()
    assert main(["report", str(read_only / "0")]) == 1
    said = capsys.readouterr()
    assert "attack AUC" in said.out
    assert (
        said.err == f"error: {read_only / '0'}: the report cannot be written (Read-only file system); try --out DIR\n"
    )


def test_a_sweep_in_such_a_folder_ends_with_its_table(read_only: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(read_only.parent / "writable" / "0", config(), metrics({"lira": 0.1}))
    print_sweep_report(read_only)
    said = capsys.readouterr().out
    assert "lira" in said
    assert f"{read_only}: the report cannot be written (Read-only file system)" in said
