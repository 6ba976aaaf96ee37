"""`advunlearn list`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """`advunlearn list`: every option of every group, or of one, with what its file says of it."""
    from advunlearn.storage.paths import config_folder

    parser = argparse.ArgumentParser("advunlearn list", description=main.__doc__)
    groups = sorted({path.parent.name for path in config_folder().glob("*/*.yaml")})
    parser.add_argument("group", nargs="?", choices=groups, help="one of the groups")
    chosen = parser.parse_args(arguments).group
    for group in [chosen] if chosen else groups:
        if not chosen:
            sys.stdout.write(f"{group}\n")
        for path in sorted((config_folder() / group).glob("*.yaml")):
            sys.stdout.write(f"  {path.stem:<22} {_first_comment(path)}\n")
    return 0


def _first_comment(path: Path) -> str:
    comments = (line.lstrip("# ").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")
