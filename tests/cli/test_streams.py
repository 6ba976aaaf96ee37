"""Standard streams that are closed, full, without a reader or in another encoding end no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from advunlearn.cli import main
from advunlearn.cli.streams import Tolerant
from advunlearn.runs.state import state_of
from advunlearn.runtime.progress import progress
from tests.report.runs import config, metrics, write

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=threshold", "hydra.run.dir=run"]


def test_a_table_whose_reader_has_gone_ends_a_process_with_status_0(workplace: Path) -> None:
    """As in `advunlearn resume | head`; a real process, since Python writes again when it ends."""
    write(workplace / "sweep" / "0", config(), metrics({"lira": 0.1}))
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "advunlearn", "resume", "sweep"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


VERBS = [["list"], ["data", "ls"], ["store", "ls"], ["--help"], ["report", "sweep"], ["run", *QUICK]]


@pytest.mark.parametrize("words", VERBS)
def test_no_verb_fails_because_its_reader_has_gone(
    words: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workplace / "sweep" / "0", config(), metrics({"lira": 0.1}))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(words) == 0
    assert words[0] != "run" or state_of(workplace / "run").name == "completed"


def test_what_is_printed_alone_fails_on_a_full_disk_and_a_run_does_not(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for words, status in ((["list"], 1), (["run", *QUICK], 0)):
        with open("/dev/full", "w", encoding="utf-8") as output:
            monkeypatch.setattr(sys, "stdout", output)
            assert main(words) == status
        assert capfd.readouterr().err.splitlines()[-1] == "error: standard output: No space left on device"
    assert state_of(workplace / "run").name == "completed"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)  # what Python does for `>&-`
    assert main(["list"]) == 0


def test_no_file_gets_the_number_of_a_closed_stream(workplace: Path) -> None:
    code = (
        "import os, sys; from advunlearn.cli.streams import tolerant_streams\n"
        "with tolerant_streams(): sys.exit(os.open('file', os.O_CREAT | os.O_WRONLY))"
    )
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code])
    assert done.returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_the_encoding_lacks_are_shown_by_their_number(tmp_path: Path, encoding: str) -> None:
    with (tmp_path / "out").open("w", encoding=encoding) as file:
        stream = Tolerant(file)
        stream.write("0.1 ± 0.2 → été \udcff")
        stream.flush()
    shown = (tmp_path / "out").read_text(encoding=encoding)
    assert (
        shown
        == {
            "ascii": r"0.1 \xb1 0.2 \u2192 \xe9t\xe9 \udcff",
            "latin-1": r"0.1 ± 0.2 \u2192 été \udcff",
            "utf-8": r"0.1 ± 0.2 → été \udcff",
        }[encoding]
    )
    assert stream.error is None


def test_a_terminal_that_is_gone_is_noted_once_and_nothing_raises() -> None:
    """A closed terminal gives EIO; this one's other end is closed."""
    other, terminal = os.openpty()
    stream = Tolerant(os.fdopen(terminal, "w", buffering=1))
    assert stream.isatty()
    os.close(other)
    for _ in range(3):
        stream.write("line\n")
    stream.flush()
    assert stream.error == "Input/output error"


def test_a_progress_bar_needs_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress(range(3), "bar")) == [0, 1, 2]


def test_a_folder_that_was_deleted_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["list"]) == 1
    assert capsys.readouterr().err == "error: No such file or directory\n"
