"""YAML files that a user wrote: read within bounds, and what is wrong in one is reported in one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.options import UserError, in_one_line
from advunlearn.storage.files import UnreadableFile, read_regular

LARGEST = 1 << 18  # bytes of a file
MOST_VALUES = 20_000  # each use of an anchor counts: a few lines with aliases can mean billions of values


def read_yaml(path: Path) -> DictConfig:
    """Return the config in a file.

    Raises:
        UnreadableFile: in one line, if it is missing, not a regular file, too large, not YAML, or not a mapping.
    """
    content = read_regular(path, LARGEST)
    try:
        text = content.decode()
        if _count(yaml.compose(text, yaml.SafeLoader), {}) > MOST_VALUES:
            raise UserError(f"holds more than {MOST_VALUES:,} values, with each use of an anchor counted")
        config = OmegaConf.load(io.StringIO(text))
    except Exception as error:  # YAML and OmegaConf raise errors of many families for what a file may hold
        raise UnreadableFile(path, _reason(error)) from error
    if not isinstance(config, DictConfig):
        raise UnreadableFile(path, "must hold lines such as `key: value`")
    return config


@contextlib.contextmanager
def yaml_errors(folders: Sequence[Path]) -> Iterator[None]:
    """Report in one line what is wrong in a YAML file that Hydra reads.

    Raises:
        UserError: with the name of the file if it is known, else of the folders.
    """
    where = ", ".join(map(str, folders))
    try:
        yield
    except UserError:
        raise
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{mark.name if mark else getattr(error, 'name', where)}: {_reason(error)}") from error
    except (HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # Hydra raises any for an invalid `defaults` list, for example
        if not folders:
            raise
        raise UserError(f"{where}: {_reason(error)}") from error


def _count(node: yaml.Node | None, known: dict[int, int | None]) -> int:
    """Return how many values a node has, counting each use of an anchor; `known` holds them by node."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = None  # until it is counted
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    found = known[id(node)]
    if found is None:
        raise UserError("has an anchor that contains itself")
    return found


def _reason(error: Exception) -> str:
    """Return in one line what is wrong, for YAML's errors with the line of the file."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"line {mark.line + 1}: {' '.join(str(error.problem).split())}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return in_one_line(error)
