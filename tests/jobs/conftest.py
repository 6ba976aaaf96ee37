"""What the jobs share: a person's folder, and the command line there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from advunlearn.cli import main

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a person's current folder, with a store of its own, for all tests of a file.

    Runs are not estimated, which takes a large part of such short runs.
    """
    place = tmp_path_factory.mktemp("person")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVUNLEARN_CACHE", str(place / "cache"))
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        patch.setattr("advunlearn.train.announce", lambda *_: None)
        yield place


@pytest.fixture(scope="module")
def cli(folder: Path) -> Cli:
    """Return a function that does `advunlearn run`, `unlearn` or `audit` in the person's folder.

    It returns what the command prints, and the numbers that it writes.
    """

    def run(*words: str, into: str, verb: str = "run") -> tuple[str, Any]:
        printed = io.StringIO()
        where = ["--folder", into] if verb == "audit" else [f"hydra.run.dir={into}"]
        with redirect_stdout(printed), redirect_stderr(printed):
            status = main([verb, *words, "threads=1", "workers=1", "device=cpu", *where])
        assert status == 0, printed.getvalue()
        numbers = folder / into / ("audit.json" if verb == "audit" else "metrics.json")
        return printed.getvalue(), json.loads(numbers.read_text(encoding="utf-8"))

    return run
