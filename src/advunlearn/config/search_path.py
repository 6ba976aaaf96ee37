"""Hydra's search path: which folders it searches for options, in addition to the shipped ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.config.part_files import own_folder, package_folder, plugin_folders
from advunlearn.config.yaml_files import read_yaml
from advunlearn.options import ConfigError, first_line

KEY = "hydra.searchpath"
EXPERIMENT = "experiment"

_searched: ContextVar[tuple[Path, ...]] = ContextVar("searched", default=())


def search_path(config_dir: str | Path | None, words: Sequence[str]) -> list[Path]:
    """Return the folders that these overrides search: the user's own first, then those of installed packages.

    The user's own are that of `--config-dir`, those of `hydra.searchpath=[...]`, and those of `hydra.searchpath` in the
    files of the chosen experiments.

    Raises:
        UserError: in one line, for a folder that does not exist and a list or file that cannot be read.
    """
    own, plugins = own_folder(config_dir), plugin_folders()
    for word in filter(is_search_path, words):
        own += _typed(word.lstrip("+"))
    for word in words:
        key, _, names = word.lstrip("+").partition("=")
        own += _of_experiments(names, [*own, *plugins]) if key == EXPERIMENT else []
    return list(dict.fromkeys([*own, *plugins]))


def is_search_path(word: str) -> bool:
    """Return whether a word is `hydra.searchpath=...`."""
    return word.lstrip("+").startswith(f"{KEY}=")


@contextlib.contextmanager
def searched(folders: Sequence[Path]) -> Iterator[None]:
    """Let Hydra search these folders: each Hydra that starts inside, in this thread.

    They come after the shipped configs; only what they hold for a recipe replaces what the shipped recipe has.
    """
    for plugin in (OwnFiles, OwnRecipes, OwnFolders):
        Plugins.instance().register(plugin)
    token = _searched.set(tuple(folders))
    try:
        yield
    finally:
        _searched.reset(token)


class OwnFolders(SearchPathPlugin):  # type: ignore[misc]
    """Hydra's plugin that adds the folders of `searched`; outside of it, it adds none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders."""
        for folder in _searched.get():
            search_path.append("advunlearn", f"{OwnFiles.scheme()}://{folder}")
        for folder in reversed(_searched.get()):
            search_path.prepend("advunlearn", f"{OwnRecipes.scheme()}://{folder}")


class OwnFiles(ConfigSource):  # type: ignore[misc]
    """Hydra's source of the configs in a folder: files are read within bounds; see `read_yaml`.

    It leaves out `hydra.searchpath` of an experiment, which Hydra itself refuses there; see `search_path`.
    """

    @staticmethod
    def scheme() -> str:
        """Return the word before `://`."""
        return "advunlearn"

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the config of a file, and its header `# @package NAME`."""
        path = self._file(config_path)
        config = read_yaml(path)
        if config_path.startswith(f"{EXPERIMENT}/") and OmegaConf.select(config, KEY) is not None:
            del config.hydra.searchpath
        package = re.search(r"^#\s*@package\s+(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        header = {"package": package[1] if package else None}
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header=header)

    def available(self) -> bool:
        """Return whether the folder exists."""
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        """Return whether it is a folder."""
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Return whether there is a file of options, or something in its place, which `load_config` refuses."""
        return self._file(config_path).exists()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the groups and options in a folder."""
        paths = [path for path in (Path(self.path) / config_path).iterdir() if path.name[0] not in "._"]
        folders = [path.name for path in paths if path.is_dir() and results_filter in (None, ObjectType.GROUP)]
        options = [
            path.stem for path in paths if path.suffix == ".yaml" and results_filter in (None, ObjectType.CONFIG)
        ]
        return sorted({*folders, *options})

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / (config_path if config_path.endswith(".yaml") else f"{config_path}.yaml")


class OwnRecipes(OwnFiles):
    """Hydra's source of what a folder holds for recipes, such as `recipe/digits/unlearner/sg.yaml`; nothing else."""

    @staticmethod
    def scheme() -> str:
        """Return the word before `://`."""
        return "advunlearn-recipes"

    def available(self) -> bool:
        """Return whether the folder exists."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Return whether it is a folder of a recipe."""
        return _is_of_recipe(config_path) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Return whether there is such a file of a recipe."""
        return _is_of_recipe(config_path) and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names in a folder of a recipe."""
        return super().list(config_path, results_filter) if self.is_group(config_path) else []


def _is_of_recipe(config_path: str) -> bool:
    return config_path.startswith("recipe/") and config_path.count("/") > 1


def _typed(word: str) -> list[Path]:
    try:
        value = OverridesParser.create().parse_override(word).value()
    except HydraException as error:
        raise ConfigError([f"{word}: cannot be read as {KEY}=[FOLDER,...]"]) from error
    return _folders(value, KEY)


def _of_experiments(names: str, folders: Sequence[Path]) -> list[Path]:
    """Return the search path in the files of these experiments, a list or a sweep as it is typed."""
    found = []
    for name in re.findall(r"[^\s,\[\]'\"]+", names):
        path = next((path for folder in folders if (path := folder / EXPERIMENT / f"{name}.yaml").is_file()), None)
        value = OmegaConf.select(read_yaml(path), KEY) if path is not None else None
        if value is not None:
            found += _folders(value, f"{path}: {KEY}")
    return found


def _folders(value: Any, where: str) -> list[Path]:
    """Return the folders that a search path names.

    Raises:
        ConfigError: in one line that begins with `where`.
    """
    try:
        found: Any = OmegaConf.to_container(OmegaConf.create({"entries": value}), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([f"{where}: {first_line(error)}"]) from error
    entries = found["entries"]
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ConfigError([f"{where} must be a list of folders, got {entries} (try [my_folder])"])
    return [_folder(entry, where) for entry in entries]


def _folder(entry: str, where: str) -> Path:
    scheme, _, name = entry.rpartition("://")
    if scheme not in ("", "file", "pkg"):
        raise ConfigError([f"{where}: {entry}: must be a folder, file://FOLDER or pkg://PACKAGE"])
    folder = package_folder(name) if scheme == "pkg" else Path(name).absolute()
    if folder is None or not folder.is_dir():
        raise ConfigError([f"{where}: {entry}: no such {'package' if scheme == 'pkg' else 'folder'}"])
    return folder
