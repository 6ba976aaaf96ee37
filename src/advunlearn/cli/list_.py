"""`advunlearn list`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import print_text
from advunlearn.report.plain_text import align
from advunlearn.runtime.terminal import table_width


def main(arguments: list[str]) -> int:
    """`advunlearn list`: every option of every group, or of one, with a description and its publication.

    The key in brackets is that of an entry in `docs/references.bib`.
    """
    from advunlearn.config import part_files

    parser = parser_of("list", main.__doc__)
    parser.add_argument("group", nargs="?", help="one of the groups")
    parser.add_argument("--config-dir", help="a folder with your own parts")
    options = parser.parse_args(arguments)
    folders = part_files.searched_folders(options.config_dir)
    if options.group:
        part_files.check_group(options.group)
    for group in [options.group] if options.group else part_files.groups():
        if not options.group:
            sys.stdout.write(f"{group}\n")
        print_group(group, folders)
    return 0


def print_group(group: str, folders: Sequence[Path]) -> None:
    """Print one line for each option of a group."""
    from advunlearn.config import part_files

    options = part_files.files(group, folders).items()
    rows = [(f"  {name:<21}", f"{part_files.summary(path)}{_citation(path)}") for name, path in options]
    if rows:
        print_text("\n".join(align(rows, fold=1, width=table_width())) + "\n")


def _citation(path: Path) -> str:
    """Return the first key that the class of this option cites, read from its source file, which is not imported."""
    module = re.search(r"^_target_: advunlearn\.(.+)\.\w+$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if module is None:
        return ""
    source = Path(__file__).parents[1].joinpath(*module[1].split(".")).with_suffix(".py")
    key = re.search(r"^ {8}\[\w+\] ", source.read_text(encoding="utf-8"), re.MULTILINE)
    return f" {key[0].strip()}" if key else ""
