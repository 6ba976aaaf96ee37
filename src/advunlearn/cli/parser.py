"""The parser of a verb."""

from __future__ import annotations

import argparse
import inspect
import shutil
import textwrap
from typing import Any

from advunlearn.runtime.terminal import FLAGS


def parser_of(verb: str, about: str | None, epilog: str = "", **keywords: Any) -> argparse.ArgumentParser:
    """Return a parser whose help names the flags of every verb, which `advunlearn.cli.main` has taken out already.

    Args:
        verb: the verb.
        about: the description.
        epilog: the text after the options: paragraphs, which are wrapped, and indented lines, which are not.
        keywords: of `argparse.ArgumentParser`.
    """
    parser = argparse.ArgumentParser(
        f"advunlearn {verb}",
        description=wrapped(inspect.cleandoc(about or "")),
        epilog=wrapped(epilog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **keywords,
    )
    for flag, meaning in FLAGS.items():
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=meaning)
    return parser


def wrapped(text: str) -> str:
    """Return the text with paragraphs as wide as the terminal; indented ones as they are."""
    width = shutil.get_terminal_size().columns - 2  # as argparse
    paragraphs = text.strip("\n").split("\n\n")
    return "\n\n".join(
        each if each.startswith(" ") else textwrap.fill(each, width, break_on_hyphens=False) for each in paragraphs
    )
