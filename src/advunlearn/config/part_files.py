"""The YAML files of parts: the shipped ones, those of installed packages, and the user's own; read without Hydra."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from advunlearn.options import ConfigError, nearest
from advunlearn.storage.paths import config_folder

GROUPS = ("dataset", "forget", "model", "optimizer", "unlearner")  # of which a run has one part each
ATTACK = "attack"  # of which a run may have several
LOGGER = "logger"  # of which a run may have several, or none
SEVERAL = (ATTACK, LOGGER)
ORIGINAL = "original"
SEEDS = "seeds"
AUDITS = "audits"
BLOCKS = (*SEVERAL, ORIGINAL, SEEDS, AUDITS)  # keys that hold options, and are no group of one part
PLUGINS = "advunlearn.plugins"  # the group of entry points by which an installed package offers its parts

logger = logging.getLogger(__name__)


def plugin_folders() -> list[Path]:
    """Return the folder `conf` of each installed package that an entry point of `advunlearn.plugins` names.

    The packages are not imported. A package without such a folder is left out with a warning.
    """
    found = []
    for entry in _plugins(tuple((folder, _changed(folder)) for folder in map(str, sys.path))):
        package = package_folder(entry.value)
        if package is not None and (package / "conf").is_dir():
            found.append(package / "conf")
        else:
            _warn(f"{PLUGINS}: {entry.name} names {entry.value}, which is not a package with a folder conf")
    return list(dict.fromkeys(found))


@functools.lru_cache(maxsize=1)
def _plugins(searched: tuple[tuple[str, int], ...]) -> list[metadata.EntryPoint]:
    """Return the entry points of plugins, by name.

    Args:
        searched: the folders of `sys.path`, and when each last changed. While they are the same, so is the result:
            reading the entry points of all installed packages takes milliseconds.
    """
    return sorted(metadata.entry_points(group=PLUGINS), key=lambda entry: entry.name)


def _changed(folder: str) -> int:
    """Return when a file was last added to a folder or removed from it, in ns; 0 if the folder does not exist."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, or None if it is not installed.

    The package is not imported, only the packages that contain it.
    """
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # importing the packages that contain it may raise any error
        return None
    locations = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(locations[0]) if locations else None


def own_folder(config_dir: str | Path | None) -> list[Path]:
    """Return the folder that `--config-dir` names, as a list; empty for None.

    Raises:
        ConfigError: if there is no such folder.
    """
    if config_dir is None:
        return []
    folder = Path(config_dir).absolute()
    if not folder.is_dir():
        raise ConfigError([f"--config-dir {config_dir}: no such folder"])
    return [folder]


def groups() -> list[str]:
    """Return the groups of the shipped configs, without those of Hydra and the settings inside a recipe."""
    return sorted({path.parent.name for path in config_folder().glob("*/*.yaml")})


def searched_folders(config_dir: str | Path | None) -> list[Path]:
    """Return the folders with options that are not shipped: that of `--config-dir`, then those of installed packages.

    Raises:
        ConfigError: if there is no such folder.
    """
    return [*own_folder(config_dir), *plugin_folders()]


def check_group(group: str) -> None:
    """Raise a ConfigError, in one line, for an unknown group."""
    if group not in (known := groups()):
        raise unknown(f"{group}: no such group", group, known)


def files(group: str, folders: Sequence[Path]) -> dict[str, Path]:
    """Return the file of each option of a group, by name, sorted.

    If two folders have a file of the same name, the first folder counts; the shipped options come first.
    """
    paths = [path for folder in [config_folder(), *folders] for path in (folder / group).glob("*.yaml")]
    return dict(sorted({path.stem: path for path in reversed(paths)}.items()))


def summary(path: Path) -> str:
    """Return the first comment of an option's file, which says what it is."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.lstrip("# ").strip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for an unknown name, with the known names and the most similar of them."""
    known = list(known)
    return ConfigError([f"{what}; choose one of {', '.join(known)}{nearest(name, known)}"])


@functools.cache
def _warn(text: str) -> None:
    """Log a warning, once in a process."""
    logger.warning(text)
