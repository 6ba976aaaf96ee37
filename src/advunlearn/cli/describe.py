"""`advunlearn describe`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from advunlearn.cli.list_ import print_group
from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import print_text
from advunlearn.config import part_files

WIDTH = 80


def main(arguments: list[str]) -> int:
    """`advunlearn describe`: what a part does, and each of its options with meaning, type, range and default."""
    parser = parser_of("describe", main.__doc__)
    parser.add_argument("group", help="a group of parts, such as unlearner")
    parser.add_argument(
        "name", nargs="?", help="a part of that group, such as sg; without it, the parts of the group are listed"
    )
    parser.add_argument("--config-dir", help="a folder with your own parts")
    options = parser.parse_args(arguments)
    folders = part_files.searched_folders(options.config_dir)
    part_files.check_group(options.group)
    if options.name is None:
        print_group(options.group, folders)
        return 0
    files = part_files.files(options.group, folders)
    if options.name not in files:
        raise part_files.unknown(f"{options.group}={options.name}: no such option", options.name, files)
    print_text("\n".join(_lines(options.group, files[options.name])) + "\n")
    return 0


def _lines(group: str, path: Path) -> Iterator[str]:
    """Yield the description of a part; of a file without a class, such as a recipe, its lines."""
    from advunlearn.config.yaml_files import read_yaml

    config = read_yaml(path)
    yield from _wrapped(f"{group}={path.stem}: {part_files.summary(path)}")
    if "_target_" not in config:
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from ("", *(line for line in lines if not line.startswith("#")))
        return
    cls = part_class(group, path)
    yield from (f"class {cls.__module__}.{cls.__qualname__}", "")
    options = options_of(cls, path)
    yield f"options, typed as {prefix(group, path.stem)}.NAME=VALUE:" if options else "no options"
    for option in options:
        yield from ("", f"  {option.name} = {option.value}")
        for text in (option.allowed, option.meaning, option.comment):
            yield from _wrapped(text, "      ")
    yield from ("", "references:")
    for entry in references_of(cls) or ["none given"]:
        yield from _wrapped(entry, "  ")


class Described(typing.NamedTuple):
    """An option of a part: its default, type and range, its meaning in the docstring, and what its file adds."""

    name: str
    value: str
    allowed: str
    meaning: str
    comment: str


def prefix(group: str, name: str) -> str:
    """Return the key of a part, before the name of an option."""
    return f"{group}.{name}" if group == "attack" else group


def options_of(cls: type, path: Path) -> list[Described]:
    """Return the options of the class of a part, as its file sets them."""
    from advunlearn.config.yaml_files import read_yaml

    config, typed = read_yaml(path), _typed(path)
    nested, hints, documented = _nested(config), typing.get_type_hints(cls), _documented(cls)
    found = []
    for field in dataclasses.fields(typing.cast(Any, cls)):
        value, comment = typed.get(field.name, ("", ""))
        value = nested.get(field.name) or value or str(config.get(field.name, _own_default(field)))
        found.append(Described(field.name, value, *_option(field, hints[field.name], documented, comment)))
    return found


def references_of(cls: type) -> list[str]:
    """Return the references in the docstring of a class, each in one line."""
    return [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", _section(cls, "References")) if entry]


def part_class(group: str, path: Path) -> Any:
    """Return the class that the file of a part names.

    Raises:
        ConfigError: if it cannot be imported, or is not a dataclass.
    """
    from advunlearn.config.yaml_files import read_yaml
    from advunlearn.options import ConfigError

    name, target = path.stem, str(read_yaml(path)["_target_"])
    module, _, attribute = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing a user's module may raise any
        raise ConfigError([f"{group}={name}: cannot import {target} ({type(error).__name__}: {error})"]) from error
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError([f"{group}={name}: {target} must be a dataclass"])
    return cls


def _option(field: Any, hint: Any, documented: dict[str, str], comment: str) -> tuple[str, str, str]:
    """Return type and range of an option, its meaning in the docstring, and what the comment in its file adds."""
    from advunlearn.config.experiment import describe_type
    from advunlearn.options import limits

    kind = "" if hint is Any or "choices" in field.metadata else describe_type(hint)
    allowed = ", ".join(filter(None, [kind, limits(field), "even" if "even" in field.metadata else ""]))
    meaning = documented.get(field.name, "")
    added = set(re.findall(r"\w+", comment)) - {"or", "and"} - set(re.findall(r"\w+", f"{allowed} {meaning}"))
    return allowed, " ".join(meaning.split()), comment if added else ""


def _own_default(field: Any) -> Any:
    """Return the default in the class, for an option that is not in the file."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        return "(required)"
    return "null" if field.default is None else field.default


def _typed(path: Path) -> dict[str, tuple[str, str]]:
    """Return the value of each option in a file, as it is typed there, and the comment after it."""
    lines = re.findall(r"^(\w+): *(.*?)(?:\s+#\s*(.*))?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (value, comment) for name, value, comment in lines}


def _nested(config: Any) -> dict[str, str]:
    """Return the default of each option that is itself a part, such as the auditor of an unlearner."""
    defaults = config.get("defaults")
    chosen = [each for each in defaults if isinstance(each, Mapping)] if isinstance(defaults, Sequence) else []
    pairs = [(key.strip("/").partition("@"), name) for each in chosen for key, name in each.items()]
    return {key[2]: f"{name} (see: advunlearn describe {key[0]} {name})" for key, name in pairs}


def _documented(cls: type) -> dict[str, str]:
    """Return the meaning of each option, from the docstrings of a class and of its base classes."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for names, text in re.findall(r"^([\w, ]+): (.*(?:\n\s.*)*)", _section(base, "Attributes"), re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), text)
    return found


def _section(cls: type, name: str) -> str:
    """Return a section of the docstring of a class, empty without it."""
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    found = re.search(rf"^{name}:\n((?: .*(?:\n|$)|\n)+)", text, re.MULTILINE)
    return textwrap.dedent(found[1]).strip() if found else ""


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text as lines of at most 80 columns; links stay whole."""
    words = " ".join(text.split())
    return textwrap.wrap(
        words, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
