"""Print the results of `gpu_check.py` as Markdown tables, and the commands of what is not measured yet.

python scripts/gpu_table.py gpu/*/results.jsonl     # tables, one after another, for each card
python scripts/gpu_table.py --missing [FILE...]     # only the commands of what these files lack
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check import STEPS, Step, read_lines

Line = dict[str, Any]
ABOUT = ("advunlearn", "python", "torch", "cuda", "cudnn")


def latest(lines: Sequence[Line]) -> dict[str, Line]:
    """Return the result of each step: its last whole one with a finding, else its last partial one."""
    found: dict[str, Line] = {}
    for line in lines:
        if line.get("found") and not (line.get("partial") and not found.get(line["step"], line).get("partial")):
            found[line["step"]] = line
    return found


def missing(found: dict[str, Line]) -> list[Step]:
    """Return the steps without a whole result."""
    return [step for step in STEPS if found.get(step.name, {"partial": True}).get("partial")]


def cell(value: object) -> str:
    """Return a value as a table shows it: numbers with three digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return str(value).replace("|", "\\|")


def table(rows: Sequence[Line]) -> list[str]:
    """Return the rows as a table with a column for each name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = [[cell(row.get(name)) for name in names] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *body)]


def section(step: Step, line: Line) -> list[str]:
    """Return what one step found: title, command, single values, and its table."""
    verdict = "" if line["ok"] else " (cut off: a part of it)" if line.get("partial") else " (**failed**)"
    values = [f"{name}: {cell(value)}" for name, value in line["found"].items() if name not in ("rows", "output")]
    rows = line["found"].get("rows", [])
    parts = [[f"{step.title}{verdict}:"], [f"    {step.command}"], ["; ".join(values)] if values else []]
    parts += [table(rows)] if rows else []
    return [text for part in parts if part for text in (*part, "")]


def heading(found: dict[str, Line]) -> str:
    """Return the name of the card, and the versions."""
    about = found.get("environment", {"found": {}})["found"]
    name = about.get("name", "a device whose step `environment` is missing")
    versions = ", ".join(f"{each} {about[each]}" for each in ABOUT if each in about)
    tiny = "\n\nA test of the script (`--tiny`): no number is a measurement." if about.get("tiny") else ""
    return f"### {name}" + (f"\n\n{versions}" if versions else "") + tiny


def ceilings(found: dict[str, Line]) -> list[str]:
    """Return what the card copies and multiplies at most."""
    about = found.get("environment", {"found": {}})["found"]
    return [f"It {name}: {cell(value)}." for name, value in about.items() if isinstance(value, float)]


def report(files: Sequence[Path]) -> list[str]:
    """Return the tables of all files, those of one card and the same versions under one heading."""
    cards: dict[str, list[Line]] = {}
    texts = []
    for path in files:
        lines, damaged = read_lines(path)
        if damaged:
            print(f"{path}: {damaged} damaged lines are left out", file=sys.stderr)
        cards.setdefault(heading(latest(lines)), []).extend(lines)
    for title, lines in cards.items():
        found = latest(lines)
        texts += [title, "", *ceilings(found), ""]
        for step in STEPS:
            if step.name in found and step.name != "environment":
                texts += section(step, found[step.name])
        last = {line["step"]: line for line in lines if not line.get("partial")}
        failed = [f"- `{name}` failed: {cell(line['error'])}" for name, line in last.items() if "error" in line]
        texts += [*failed, ""] if failed else []
        texts += absent(found)
    return texts


def absent(found: dict[str, Line]) -> list[str]:
    """Return the table of what is not measured, each with its command."""
    rows = [{"not measured yet": step.title, "command": f"`{step.command}`"} for step in missing(found)]
    return table(rows) if rows else ["All steps are measured."]


def main() -> None:
    """Print the tables, or the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="RESULTS.jsonl")
    parser.add_argument("--missing", action="store_true", help="only list what is not measured yet")
    options = parser.parse_args()
    unreadable = [str(path) for path in options.files if not path.is_file()]
    if unreadable:
        parser.error(f"no such file: {', '.join(unreadable)}")
    if options.missing or not options.files:
        lines = [line for path in options.files for line in read_lines(path)[0]]
        print("\n".join(absent(latest(lines))))
    else:
        print("\n".join(report(options.files)))


if __name__ == "__main__":
    main()
