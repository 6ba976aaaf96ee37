"""Print docs/methods.md: each method in two paragraphs, what it reads, and the printed tables of comparisons.

    python scripts/methods_page.py > docs/methods.md

The tables in docs/comparisons are the `table.md` that `advunlearn compare` writes. Their first line names the setting.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from advunlearn.config.part_files import files
from advunlearn.config.yaml_files import read_yaml
from advunlearn.options import imported
from advunlearn.unlearners.unlearner import Unlearner

ROOT = Path(__file__).parents[1]
INTRO = """\
# Methods

Every unlearner, what it does, what it reads and where it fails, and how all of them compare with retraining. This page
is printed by `python scripts/methods_page.py`, from the docstrings and from tables that `advunlearn compare` writes.
`advunlearn describe unlearner NAME` prints the options. The docstrings have the formulas, the published settings and
the differences from published code.
"""


def paragraphs(part: type) -> list[str]:
    """Return the paragraphs of a docstring before its sections, each in one line."""
    text = inspect.cleandoc(part.__doc__ or "")
    before = re.split(r"\n(?:Attributes|References):\n", text)[0]
    return [" ".join(paragraph.split()) for paragraph in before.split("\n\n") if paragraph.strip()]


def entry(name: str, unlearner: Unlearner) -> str:
    """Return the entry of one method."""
    first, *others = paragraphs(type(unlearner))
    read = ", ".join(unlearner.parts_read()) or "nothing"
    lines = [f"### {name}", "", first, *(["", others[-1]] if others else []), "", f"Reads: {read}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Print the page."""
    sys.stdout.write(INTRO)
    for path in sorted((ROOT / "docs" / "comparisons").glob("*.md")):
        sys.stdout.write(f"\n{path.read_text(encoding='utf-8').strip()}\n")
    sys.stdout.write("\n## Each method\n\n")
    paths = files("unlearner", [])
    targets = {name: str(read_yaml(path)["_target_"]) for name, path in paths.items()}
    sys.stdout.write("\n".join(entry(name, imported(target, name)()) for name, target in targets.items()))


if __name__ == "__main__":
    main()
