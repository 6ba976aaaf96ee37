"""The page of the command line: what each verb prints with --help."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from unittest.mock import patch

from advunlearn.cli import USAGE, VERBS, main

BY_HYDRA = ("run", "unlearn")  # their help is that of Hydra, which prints the config: see run.md
WITH_VERBS = {"data": ("fetch", "pack", "unpack"), "store": ("verify", "prune")}


def page() -> str:
    """Return the page."""
    parts = ["# The command line\n", _code(USAGE)]
    for verb in VERBS:
        if verb in BY_HYDRA:
            continue
        parts += [f"## {verb}\n", _code(shown([verb]))]
        parts += [_code(shown([verb, each])) for each in WITH_VERBS.get(verb, ())]
    run = "`advunlearn run` and `advunlearn unlearn` take the [options of a run](run.md)."
    return "\n".join([*parts[:2], run + "\n", *parts[2:]])


def shown(words: Sequence[str]) -> str:
    """Return the help of a verb, as a terminal of 80 columns shows it."""
    printed = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": "80"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main([*words, "--help"])
    return printed.getvalue()


def _code(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n"
