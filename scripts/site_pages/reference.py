"""The pages of the parts: one for each group in conf/, from the files there and the docstrings of their classes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from advunlearn.cli.describe import options_of, part_class, prefix, references_of
from advunlearn.config import part_files
from advunlearn.config.yaml_files import read_yaml
from advunlearn.storage.paths import config_folder

INDEX = """\
# Parts and their options

A run is composed of one part of each group: `group=part` on the command line chooses it, and `group.option=value` sets
an option. These pages are made from the files in `conf/` and from the docstrings of the classes, as is what
`advunlearn describe GROUP PART` prints. Options that belong to no part are [those of a run](run.md).

| group | parts |
|---|---|
"""
RUN = """\
# The options of a run

The file `conf/config.yaml`. Each line is an option with its default: `seeds.training=1` on the command line sets
`training` below `seeds`. The parts that `defaults` names have [options of their own](index.md).
"""
SECTIONS = re.compile(r"^(?:Attributes|References|Raises|Examples?):$", re.MULTILINE)


def index() -> str:
    """Return the page of all groups, each with the names of its parts."""
    return INDEX + "".join(f"| [`{group}`]({group}.md) | {_names(group)} |\n" for group in part_files.groups())


def _names(group: str) -> str:
    return ", ".join(f"[`{name}`]({group}.md#{name})" for name in part_files.files(group, []))


def run_page() -> str:
    """Return the page of the options of a run that belong to no part."""
    text = (config_folder() / "config.yaml").read_text(encoding="utf-8").strip()
    return f"{RUN}\n```yaml\n{text}\n```\n"


def group_page(group: str) -> str:
    """Return the page of a group: each of its parts with its docstring, its options and its references."""
    entries = ["\n".join(_part(group, path)) for path in part_files.files(group, []).values()]
    return "\n".join([f"# {group}\n", *entries])


def _part(group: str, path: Path) -> Iterator[str]:
    yield from (f"## {path.stem}", "", f"`{group}={path.stem}`: {part_files.summary(path)}", "")
    if "_target_" not in read_yaml(path):
        yield from _settings(path)
        return
    cls = part_class(group, path)
    yield from (_prose(cls), "", f"Class `{cls.__module__}.{cls.__qualname__}`.", "")
    yield from _table(group, path, cls)
    for entry in references_of(cls):
        yield f"- {_linked(entry)}"
    yield ""


def _table(group: str, path: Path, cls: type) -> Iterator[str]:
    """Yield the table of the options of a part."""
    options = options_of(cls, path)
    if not options:
        return
    yield from ("| option | meaning |", "|---|---|")
    for each in options:
        name, value = f"{prefix(group, path.stem)}.{each.name}", each.value.split(" (see: ")[0]
        meaning = "; ".join(filter(None, [each.meaning.rstrip("."), each.comment]))
        yield f"| `{_cell(f'{name}={value}')}`<br>{_cell(each.allowed)} | {_cell(meaning)} |"
    yield ""


def _settings(path: Path) -> Iterator[str]:
    """Yield the lines of a file without a class, such as a recipe, and of the files in the folder of its name."""
    for each in [path, *sorted(path.with_suffix("").rglob("*.yaml"))]:
        text = each.read_text(encoding="utf-8").strip()
        yield from (f'```yaml title="conf/{each.relative_to(config_folder()).as_posix()}"', text, "```", "")


def _prose(cls: type) -> str:
    """Return a docstring without its sections."""
    return SECTIONS.split(inspect.cleandoc(vars(cls).get("__doc__") or ""))[0].strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _linked(entry: str) -> str:
    """Return a reference with a link from its key to the list of all, and its address as a link."""
    keyed = re.sub(r"^\[(\w+)\]", r"[\\[\1\\]](references.md#\1)", entry)
    return re.sub(r"(?<![(<])https?://[^\s,;)]+[^\s,;).]", r"<\g<0>>", keyed)
