"""What the arguments of the Python interface must be; and errors that call options as the caller does."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from torch import nn

from advunlearn.attacks.attack import Attack
from advunlearn.options import UserError

ConfigDir = str | Path | None
"""A folder with the YAML files of the caller's own parts, which may then be named."""

P = ParamSpec("P")
R = TypeVar("R")

# What an option is called in a config, and as an argument; not inside the name of a file.
_NAMES = {
    "unlearner.auditor": "auditor",
    "unlearner=": "method=",
    "unlearner.": "",
    "attack=": "attacks=",
    "attack.": "",
    "dataset: ": "",
}
_NAMED = re.compile(rf"(?<![\w./])({'|'.join(map(re.escape, _NAMES))})")


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with errors that name its arguments: `epochs` for the option `unlearner.epochs`."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            error.problems = [_NAMED.sub(lambda found: _NAMES[found[1]], each) for each in error.problems]
            error.args = ("\n".join(error.problems),)
            raise

    return called


def kind_of(value: object) -> str:
    """Return what a value is, in a few words: a text or a number itself, or the class of an object."""
    if isinstance(value, type):
        return f"the class {value.__name__} (an object is needed, such as {value.__name__}(...))"
    return repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__


def check_functions(**given: object) -> None:
    """Raise a UserError, in one line, for an argument that is given and cannot be called."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise UserError(f"{name} must be a function, got {kind_of(value)}")


def check_model(model: object, name: str) -> None:
    """Raise a UserError, in one line, unless a model is a network."""
    if isinstance(model, nn.Module):
        return
    weights = isinstance(model, dict) and len(model) > 0 and all(isinstance(each, str) for each in model)
    hint = " (load these weights into a network: network.load_state_dict(...))" if weights else ""
    raise UserError(f"{name} must be a torch.nn.Module, got {kind_of(model)}{hint}")


def check_attacks(attacks: Mapping[str, Attack], given: Mapping[str, object], population: str) -> None:
    """Raise a UserError, in one line, if an attack needs a part of the data that is not given.

    Args:
        attacks: by name.
        given: the parts of the data, by name; None is not given.
        population: the name of the part that is the population.
    """
    for name, attack in attacks.items():
        for needed, part in ((attack.needs_population, population), (attack.needs_retain, "retain")):
            if needed and given[part] is None:
                about = "training examples that the model keeps" if part == "retain" else "further non-members"
                raise UserError(f"{name} compares with other examples: give {part}=, {about}")


def check_path(path: object, name: str) -> None:
    """Raise a UserError, in one line, unless a folder is given by its path, or is None."""
    if path is not None and not (isinstance(path, (str, os.PathLike)) and str(path)):
        raise UserError(f"{name} must be the path of a folder, got {kind_of(path)}")


def check_config_dir(path: ConfigDir) -> None:
    """Raise a UserError, in one line, unless the folder of the caller's parts exists, or is None."""
    check_path(path, "config_dir")
    if path is not None and not Path(path).expanduser().is_dir():
        raise UserError(f"config_dir={path}: no such folder")
