"""docs/methods.md is what its command prints."""

from __future__ import annotations

from pathlib import Path

import methods_page
import pytest

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    methods_page.main()
    printed = capsys.readouterr().out
    assert printed == (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert all(f"\n### {path.stem}\n" in printed for path in (ROOT / "conf" / "unlearner").glob("*.yaml"))
