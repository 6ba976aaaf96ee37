"""Typed, validated options of components."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import math
import numbers
import operator
import secrets
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar


def one_line(text: str) -> str:
    r"""Return a text with control characters escaped, as \x1b or \n: user input may contain them."""
    if text.isprintable():  # at once: the pictures in a page have a million characters
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def in_one_line(error: Exception) -> str:
    """Return the message of an exception without its line breaks, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: Exception) -> str:
    """Return the first line of the message of an exception, or its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class UserError(ValueError):
    """The user's input cannot be used; the message is one line that tells what to change.

    The command line prints it as it is. Any other exception is a bug, of ours or of the user's own part, and keeps its
    traceback in the run's log.

    Attributes:
        problems: one line per problem, for an error with several; else the message.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = [one_line(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class OptionError(UserError):
    """Report every bad option of one component; `problems` holds one line each, starting with the option's name."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)


class ConfigError(UserError):
    """Report every mistake found in a config before any work is done; one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)


def located(error: BaseException) -> str:
    """Return type, message and location of an exception in one line: for a bug, of ours or in a part of the user."""
    words = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{words} ({frames[-1].filename} line {frames[-1].lineno})" if frames else words


def nearest(word: str, known: Iterable[str], prefix: str = "", suffix: str = "") -> str:
    """Return ` (did you mean PREFIX X SUFFIX?)` with the most similar known word; empty if no known word is similar."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {prefix}{close[0]}{suffix}?)" if close else ""


def option(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
    even: bool = False,
    search: tuple[float, float] | None = None,
) -> Any:
    """Declare a dataclass field with its default and the allowed range; for a list, that of each element.

    `even` allows only multiples of 2, for models in complementary pairs. `search` is the range in which `advunlearn
    tune` looks for a better value than the default.
    """
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below, "choices": choices}
    metadata: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    if even:
        metadata["even"] = True
    if search is not None:
        metadata["search"] = search
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_ORDER: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "at_least": ("at least", operator.ge),
    "above": ("greater than", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("less than", operator.lt),
}


def limits(field: dataclasses.Field[Any]) -> str:
    """Return the allowed range of an option in words, as `at least 0 and less than 1`; empty without one."""
    choices = field.metadata.get("choices")
    if choices is not None:
        return f"one of {', '.join(choices)}"
    return " and ".join(f"{_ORDER[kind][0]} {limit:.10g}" for kind, limit in field.metadata.items() if kind in _ORDER)


def _complaint(field: dataclasses.Field[Any], value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{field.name} must be a finite number, got {value}"
    choices = field.metadata.get("choices")
    if choices is not None:
        return None if value in choices else f"{field.name} must be {limits(field)}, got {value}"
    ordered = {kind: limit for kind, limit in field.metadata.items() if kind in _ORDER}
    if ordered and not isinstance(value, numbers.Real):
        return f"{field.name} must be a number, got {value!r}"
    if all(_ORDER[kind][1](value, limit) for kind, limit in ordered.items()):
        odd = "even" in field.metadata and value % 2
        return f"{field.name} must be an even whole number, got {value} (try {field.name}=16)" if odd else None
    has_default = field.default is not dataclasses.MISSING and field.default is not None
    hint = f" (try {field.name}={field.default})" if has_default else ""
    return f"{field.name} must be {limits(field)}, got {value}{hint}"


class Component:
    """Base class of config components: a dataclass of options, validated on construction."""

    group: ClassVar[str] = ""
    """The config group that it is an option of; bases of the groups name it."""

    def __post_init__(self) -> None:
        """Check every option against its declared limits, then against each other.

        Raises:
            OptionError: with one line for each option that is out of its limits.
        """
        problems: list[str] = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is None:
                continue
            values = value if isinstance(value, list) else [value]
            problems += filter(None, (_complaint(field, each) for each in values))
        problems += self.conflicts() if not problems else []
        if problems:
            raise OptionError(problems)

    def conflicts(self) -> list[str]:
        """Return one line for each combination of this component's own options that cannot work."""
        return []

    def identity(self) -> dict[str, Any]:
        """Return what identifies this component in the store, as plain data: its name and its options.

        One of ours is named by its group and its file, such as `optimizer/sgd`, independent of the folder; schema
        numbers guard its results. A class of the user is named by its import path and the source of all that it uses.
        """
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {name: value.identity() if isinstance(value, Component) else value for name, value in options.items()}
        cls: type = type(self)
        if _is_ours(cls.__module__):
            return {"part": f"{self.group}/{cls.__module__.rpartition('.')[2].rstrip('_')}", **plain}
        return {"part": f"{cls.__module__}.{cls.__qualname__}", "source": source_digest(cls), **plain}


def imported(path: str, key: str) -> Any:
    """Return what an import path names, such as `mypkg.net:Net` or `mypkg.net.Net`.

    Raises:
        OptionError: in one line that begins with the key, if it cannot be imported or is not a function or class.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name) if module else None
    except Exception as error:  # importing a module of the user may raise any
        raise OptionError([f"{key}={path}: cannot be imported ({type(error).__name__}: {error})"]) from error
    if not (inspect.isclass(found) or inspect.isroutine(found)):  # the source of anything else cannot be found
        raise OptionError([f"{key} must be the import path of a function or class, such as mypkg.net:Net, got {path}"])
    return found


@functools.cache
def source_digest(part: Callable[..., Any]) -> str:
    """Return the SHA-256 of the user's own source that a class or function depends on.

    That is its module, those of its base classes, and all modules that these import, directly or not, except for
    installed packages; for a part of an installed package, its own modules count. One without a file, typed into an
    interpreter, gets a random digest.
    """
    is_part = isinstance(part, type) and issubclass(part, Component)
    package = part.__module__.partition(".")[0] if is_part else ""
    found: dict[str, bytes] = {}
    waiting = [base.__module__ for base in getattr(part, "__mro__", (part,))]
    while waiting:
        name = waiting.pop()
        path = _own_file(name, package)
        if path is not None and name not in found:
            found[name] = path.read_bytes()
            waiting += _imports(name, found[name])
    if part.__module__ not in found and is_own(part.__module__):
        found[part.__module__] = secrets.token_bytes(16)
    digest = hashlib.sha256()
    for name, content in sorted(found.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


_LIBRARIES = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_LIBRARIES += [*site.getsitepackages(), site.getusersitepackages()]
_INSTALLED = tuple({Path(folder).resolve() for folder in _LIBRARIES})


def is_shipped(part: object) -> bool:
    """Return whether an object's class is one of this package, and not of the user."""
    return _is_ours(type(part).__module__)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def is_own(module: str) -> bool:
    """Return whether a module is the user's: a file outside installed packages, or code typed into an interpreter."""
    path = _file(module)
    return not _is_ours(module) and (path is None or not _in_libraries(path))


def _own_file(module: str, package: str) -> Path | None:
    """Return the source file of a module that belongs to the user, or to this installed package.

    None for our modules, those of other installed packages, and ones without a file.
    """
    path = None if _is_ours(module) else _file(module)
    if path is None or path.suffix != ".py":
        return None
    return path if module.partition(".")[0] == package or not _in_libraries(path) else None


def _file(module: str) -> Path | None:
    try:
        spec = sys.modules[module].__spec__ if module in sys.modules else importlib.util.find_spec(module)
        named = spec.origin if spec is not None else getattr(sys.modules.get(module), "__file__", None)
    except (ImportError, AttributeError, ValueError):
        return None
    path = Path(named).resolve() if named else None
    return path if path is not None and path.is_file() else None


def _in_libraries(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _INSTALLED)


def _imports(module: str, source: bytes) -> Iterator[str]:
    """Yield the names of the modules that this source may import, inside functions as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if _is_package(module) else module.rpartition(".")[0]
            base = "." * node.level + (node.module or "")
            name = importlib.util.resolve_name(base, package) if node.level else base
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _is_package(module: str) -> bool:
    return hasattr(sys.modules.get(module), "__path__")
