"""Every example of docs/python.md, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from advunlearn.options import ConfigError, UserError

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(workplace))
    code = "\n".join(BLOCKS)
    assert all(f"advunlearn.{verb}(" in code for verb in ("unlearn", "audit", "compare", "run"))
    (workplace / "example.py").write_text(code, encoding="utf-8")
    scope: dict[str, object] = {"__name__": "example", "__file__": str(workplace / "example.py")}
    exec(compile(code, str(workplace / "example.py"), "exec"), scope)
    assert (workplace / "unlearned.pt").exists()
    assert "lira" in (workplace / "audit.html").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "computed on" in printed
    assert printed.endswith(f"{re.findall(r'print.error.  # (.*)', code)[0]}\n")


def test_errors_are_of_the_kind_that_it_names() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(UserError, ValueError)


def test_files_that_it_points_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / target).exists(), target
