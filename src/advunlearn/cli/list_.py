"""`advunlearn list`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from advunlearn.cli.problems import refuse


def main(arguments: list[str]) -> int:
    """`advunlearn list`: every option of every group, or of one, with a description and its publication.

    The key in brackets is that of an entry in `docs/references.bib`.
    """
    from advunlearn.storage.paths import config_folder, config_groups

    parser = argparse.ArgumentParser("advunlearn list", description=main.__doc__)
    groups = config_groups()
    parser.add_argument("group", nargs="?", choices=groups, help="one of the groups")
    parser.add_argument("--config-dir", type=Path, help="a folder with your own parts")
    options = parser.parse_args(arguments)
    if options.config_dir is not None and not options.config_dir.is_dir():
        return refuse([f"--config-dir {options.config_dir}: no such folder"])
    folders = [config_folder(), *([options.config_dir] if options.config_dir else [])]
    for group in [options.group] if options.group else groups:
        if not options.group:
            sys.stdout.write(f"{group}\n")
        for path in sorted(path for folder in folders for path in (folder / group).glob("*.yaml")):
            sys.stdout.write(f"  {path.stem:<22} {_first_comment(path)}{_citation(path)}\n")
    return 0


def _first_comment(path: Path) -> str:
    comments = (
        line.lstrip("# ").strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def _citation(path: Path) -> str:
    """Return the first key that the class of this option cites, read from its source file, which is not imported."""
    module = re.search(r"^_target_: advunlearn\.(.+)\.\w+$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if module is None:
        return ""
    source = Path(__file__).parents[1].joinpath(*module[1].split(".")).with_suffix(".py")
    key = re.search(r"^ {8}\[\w+\] ", source.read_text(encoding="utf-8"), re.MULTILINE)
    return f" {key[0].strip()}" if key else ""
