"""Nothing that is logged controls a terminal or looks like another line."""

from __future__ import annotations

import logging

import pytest

from advunlearn.runtime.logs import PlainFormatter, log_to_terminal


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("name", logging.INFO, "", 0, message, (), info)


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    forged = "seed=\x1b[31m1\n12:00:00 report: all is well\r\u202e"
    line = PlainFormatter("%(levelname)s %(message)s").format(record(forged))
    assert line == r"INFO seed=\x1b[31m1\n12:00:00 report: all is well\r\u202e"


def test_a_traceback_keeps_its_lines() -> None:
    lines = (
        PlainFormatter("%(message)s")
        .format(record("failed", ValueError("first\nsecond \x1b]0;title\x07")))
        .splitlines()
    )
    assert lines == ["failed", "ValueError: first", r"second \x1b]0;title\x07"]


def test_the_terminal_gets_such_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    try:
        log_to_terminal()
        logging.getLogger("advunlearn").warning("an attack \x1b[2J")
    finally:
        root.setLevel(level)
    assert capsys.readouterr().err.endswith(" an attack \\x1b[2J\n")
