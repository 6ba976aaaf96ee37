"""Text is UTF-8 whatever the locale: every place that opens text names its encoding.

ruff's PLW1514 checks the same where it can infer that something is a path, and misses `(folder / name).read_text()`.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from advunlearn.data.forget.indices import Indices

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])


def unnamed(source: str) -> Iterator[int]:
    """Yield the lines of calls that read or write text in the encoding of the locale."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        text = (
            (name in ("read_text", "FileHandler", "Log", "TextIOWrapper") and len(call.args) < 2)
            or name == "write_text"
            or (name == "open" and _is_text(call, keywords.get("mode")))
            or (name in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & keywords.keys())
        )
        if text and "encoding" not in keywords:
            yield call.lineno


def _is_text(call: ast.Call, mode: ast.expr | None) -> bool:
    modes = [mode, *call.args[:2]]
    words = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    others = {"os", "Image", "tarfile", "archive"}
    of = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    return of not in others and not any("b" in word and len(word) < 4 for word in words)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("(folder / 'x').read_text()", [1]),
        ("path.write_text('x')", [1]),
        ("path.open()", [1]),
        ("open(path, 'a')", [1]),
        ("open(path, mode='w')", [1]),
        ("subprocess.run(words, text=True)", [1]),
        ("logging.FileHandler(path)", [1]),
        ("path.open('rb')", []),
        ("os.open(path, flags)", []),
        ("path.read_text(encoding='utf-8')", []),
        ("subprocess.run(words)", []),
    ],
)
def test_what_is_looked_for_is_found(source: str, lines: list[int]) -> None:
    assert list(unnamed(source)) == lines


def test_every_text_has_an_encoding() -> None:
    assert len(FILES) > 150
    found = {str(path.relative_to(ROOT)): list(unnamed(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def in_process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `advunlearn` in a new process: Python takes the locale at its start."""
    command = [sys.executable, "-m", "advunlearn", *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, encoding="utf-8")


@pytest.mark.skipif(shutil.which("localedef") is None, reason="needs localedef to make a Latin-1 locale")
def test_a_sweep_in_a_latin_1_locale_finds_what_it_named(workplace: Path) -> None:
    locale = workplace / "locales" / "en_US.ISO-8859-1"
    locale.parent.mkdir()
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", locale], check=True, capture_output=True)
    rows = np.arange(80)
    np.savez(workplace / "été.npz", images=(rows[:, None, None] * np.ones((8, 8))).astype(np.uint8), labels=rows % 4)
    words = ["optimizer.epochs=1", "unlearner=none", "attack=threshold", "dataset=npz", "dataset.path=été.npz"]
    environment = {"LOCPATH": str(locale.parent), "LC_ALL": locale.name, "PYTHONIOENCODING": "utf-8"}
    environment["PYTHONWARNDEFAULTENCODING"] = "1"
    done = in_process("run", "-m", "seed=1", "hydra.sweep.dir=é", *words, **environment)
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "EncodingWarning" in line and "/advunlearn/" in line]
    config = (workplace / "é" / "0" / "config.yaml").read_bytes()
    assert "Ã©tÃ©.npz".encode() in config  # the name as this locale has it, in UTF-8 as every text


def test_row_numbers_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(b"\xef\xbb\xbf3\r\n5\r\n")  # as Windows writes them
    assert Indices(path=str(tmp_path / "rows.txt")).required_rows().tolist() == [3, 5]


def test_an_options_file_is_listed_in_any_locale(workplace: Path) -> None:
    done = in_process("list", "unlearner", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
