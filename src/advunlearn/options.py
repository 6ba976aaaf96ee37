"""Typed options with their limits: what every component of an experiment is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class OptionError(ValueError):
    """Report every bad option of one component; `problems` holds one line each, starting with the option's name."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class ConfigError(Exception):
    """Report every mistake found in a config before any work is done; one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def option(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Declare a dataclass field with its default and the values that it may take; of a list, those of each element."""
    limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below, "choices": choices}
    metadata = {name: limit for name, limit in limits.items() if limit is not None}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_ORDER: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "at_least": ("at least", operator.ge),
    "above": ("greater than", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("less than", operator.lt),
}


def _complaint(field: dataclasses.Field[Any], value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{field.name} must be a finite number, got {value}"
    choices = field.metadata.get("choices")
    if choices is not None and value not in choices:
        return f"{field.name} must be one of {', '.join(choices)}, got {value}"
    limits = [(*_ORDER[kind], limit) for kind, limit in field.metadata.items() if kind in _ORDER]
    if all(holds(value, limit) for _, holds, limit in limits):
        return None
    wanted = " and ".join(f"{words} {limit:.10g}" for words, _, limit in limits)
    has_default = field.default is not dataclasses.MISSING and field.default is not None
    hint = f" (try {field.name}={field.default})" if has_default else ""
    return f"{field.name} must be {wanted}, got {value}{hint}"


class Component:
    """Base of everything that a config composes: plain options, checked when it is made, that do no work."""

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

    def resolved(self) -> dict[str, Any]:
        """Return the options as plain data, with their class: what identifies this component in the store."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {name: value.resolved() if isinstance(value, Component) else value for name, value in options.items()}
        return {"_target_": f"{type(self).__module__}.{type(self).__qualname__}", **_source(type(self)), **plain}


def _source(cls: type) -> dict[str, str]:
    """Return the checksum of the file of a person's own class, which they may change; ours have schema numbers."""
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return {}
    return {"_source_": hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()}
