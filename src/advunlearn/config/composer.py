"""Compose configs with Hydra, and report every mistake in the overrides instead of the first one."""

from __future__ import annotations

import contextlib
import copy
import math
import secrets
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import omegaconf
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.config import part_files
from advunlearn.config.part_files import AUDITS, BLOCKS, GROUPS, ORIGINAL, SEEDS, SEVERAL, plugin_folders
from advunlearn.config.search_path import OwnFiles, search_path, searched
from advunlearn.config.yaml_files import yaml_errors
from advunlearn.options import ConfigError, UserError, first_line, nearest
from advunlearn.storage.paths import config_folder

RECIPE = "recipe"
# An auditor is nested in its unlearner; users type `auditor=svm`.
AUDITOR = "auditor@unlearner.auditor"
CREATED_BY_HYDRA = ("advunlearn.report.summary.at_end.SweepSummary", "advunlearn.runtime.logs.PlainFormatter")
# What was composed of installed configs, by the folders of plugins: they do not change while a process runs, and Hydra
# takes a tenth of a second.
_INSTALLED: dict[tuple[Path, ...], dict[tuple[str, ...], Composed]] = {}


def version_base() -> dict[str, str]:
    """Return the keyword that Hydra before 1.4 wants and later ones warn of."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def main_keywords() -> dict[str, Any]:
    """Return the keywords of `hydra.main`: from 1.4 on, Hydra wants a list of the classes that its own config may name.

    Hydra adds the classes of its plugins. Those of a run's parts are not created by Hydra.
    """
    return version_base() or {"execution_whitelist": list(CREATED_BY_HYDRA)}


def register_resolvers() -> None:
    """Define what the configs for Hydra use.

    `${uid:}` is four random letters, so that two runs of the same second do not share a folder. `${groups:SOURCES}` is
    the text of `--help` about the groups.
    """
    # OmegaConf 2.3 has a `register_resolver` as well, an older one with another signature.
    name = "register_new_resolver" if omegaconf.__version__.startswith("2.3") else "register_resolver"
    register = getattr(OmegaConf, name)
    register("uid", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    register("groups", _groups, replace=True)


def _groups(sources: Iterable[Any]) -> str:
    """Return a line for each group that a user chooses from: the options in these `hydra.runtime.config_sources`."""
    folders = [Path(source.path) for source in sources if source.schema in ("file", OwnFiles.scheme())]
    width = shutil.get_terminal_size().columns - 1
    lines = (f"{group}: {', '.join(part_files.files(group, folders))}" for group in part_files.groups())
    return "\n".join(textwrap.fill(line, width, subsequent_indent="    ") for line in lines)


@contextlib.contextmanager
def composer(config_dir: str | Path | None = None, words: Sequence[str] = ()) -> Iterator[Composer]:
    """Yield a composer of the shipped configs, those of installed packages, and the user's own; see `search_path`.

    Raises:
        UserError: for a folder that does not exist, or a search path that cannot be read.
    """
    folders = search_path(config_dir, words)
    known = _INSTALLED.setdefault(tuple(folders), {}) if folders == plugin_folders() else {}
    with _kept_hydra(), searched(folders), initialize_config_dir(str(config_folder()), **version_base()):
        yield Composer(GlobalHydra.instance().config_loader(), folders, known)


@dataclass(frozen=True)
class Composed:
    """A composed config, and what Hydra knows of it: the option of each group, and what an experiment sweeps over."""

    config: DictConfig
    choices: dict[str, Any]
    params: dict[str, Any]


@contextlib.contextmanager
def _kept_hydra() -> Iterator[None]:
    """Start without Hydra; at the end, restore the one of the program that calls the Python API, if it uses Hydra."""
    before, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = before, base


@dataclass
class Composer:
    """Composes the shipped configs and the user's own.

    Attributes:
        loader: Hydra's.
        folders: with the options that are not shipped.
        known: what was composed before, by the choices of groups.
    """

    loader: ConfigLoader
    folders: Sequence[Path]
    known: dict[tuple[str, ...], Composed]

    def options(self, group: str) -> list[str]:
        """Return the options of a group, the shipped ones and others; none if there is no such group."""
        return list(part_files.files(group, self.folders))

    def parse(self, overrides: Sequence[str], problems: list[str]) -> list[Override]:
        """Return each override that can be read; a sweep over several values is one of them."""
        parsed = []
        for text in overrides:
            try:
                text.encode()
                parsed += OverridesParser.create(config_loader=self.loader).parse_overrides([text])
            except UnicodeEncodeError:
                problems.append(f"{text}: not valid UTF-8; rename the file, or use a link with another name")
            except (HydraException, OmegaConfBaseException) as error:
                problems.append(f"{text}: cannot be read as key=value{_reason(error)}{_with_quotes(text)}")
        return parsed

    def values(self, override: Override, problems: list[str]) -> list[str]:
        """Return the single overrides that an override sweeps over: itself if it is no sweep, an interval's ends."""
        text = str(override.input_line)
        if not override.is_sweep_override():
            return [text]
        key = text.split("=", 1)[0]
        if override.is_interval_sweep():
            interval: Any = override.value()
            return [f"{key}={interval.start}", f"{key}={interval.end}"]
        try:
            found = [f"{key}={value}" for value in override.sweep_string_iterator()]
        except (HydraException, ValueError) as error:
            problems.append(f"{text}: cannot be swept over ({first_line(error)})")
            return []
        if not found:
            options = self.options(override.key_or_group)
            choices = f"; choose from {', '.join(options)}" if options else ""
            problems.append(f"{text}: no value matches{choices}")
        return found

    def compose(self, overrides: Sequence[Override], problems: list[str]) -> Composed | None:
        """Return the composed config with the values set, or None.

        Unknown values are found later, by `read_experiment`.
        """
        groups, values = self._sorted(overrides, problems)
        try:
            known = self._composed(groups)
        except UserError as error:
            problems.append(str(error))
            return None
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_composition_problem(error, groups))
            return None
        config = copy.deepcopy(known.config)
        for override in values:
            _apply(config, override, problems)
        return Composed(config, known.choices, known.params)

    def named_folder(self, word: str, others: Sequence[str]) -> Path:
        """Return the folder that `hydra.run.dir=...` or `hydra.sweep.dir=...` names.

        It may contain `${now:%Y}` and the like, and options that the other words set, such as `${seed}`.

        Raises:
            ConfigError: if it cannot be resolved.
        """
        try:
            config = compose("config", [word, *others], return_hydra_config=True)
            return Path(str(OmegaConf.select(config, word.partition("=")[0])))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError([f"{word}: {first_line(error)}"]) from error

    def _sorted(self, overrides: Sequence[Override], problems: list[str]) -> tuple[list[str], list[Override]]:
        """Return the right choices of groups and the values; Hydra's own are left out."""
        groups, values = [], []
        for override in overrides:
            key = override.key_or_group
            if key.startswith("hydra.") or (key.startswith("hydra/") and "=" in str(override.input_line)):
                continue
            options = self.options(key)
            if options:
                wrong = _wrong_choices(override, options) or self._hidden(override)
                problems += wrong
                if not wrong:
                    groups.append(str(override.input_line))
            else:
                values.append(override)
        return groups, values

    def _hidden(self, override: Override) -> list[str]:
        """Return a line for each chosen option that has a file of the user, and is shipped as well."""
        group, value = override.key_or_group, override.value()
        names = [f"{group}/{name}.yaml" for name in (value if isinstance(value, list) else [value])]
        shipped = [name for name in names if (config_folder() / name).is_file()]
        return [
            f"{group}={Path(name).stem}: {folder / name} has the name of a shipped option, and is not used; rename it"
            for name in shipped
            for folder in self.folders
            if (folder / name).is_file()
        ]

    def _composed(self, groups: Sequence[str]) -> Composed:
        """Return what these choices compose, for all to share."""
        if tuple(groups) not in self.known:
            with yaml_errors(self.folders):
                config = compose("config", list(groups), return_hydra_config=True)
            OmegaConf.set_struct(config, False)
            node = config.pop("hydra")
            params = OmegaConf.select(node, "sweeper.params") or {}
            self.known[tuple(groups)] = Composed(config, dict(node.runtime.choices), dict(params))
        return self.known[tuple(groups)]


def is_readable(text: str) -> bool:
    """Return whether a word is an override in Hydra's grammar."""
    try:
        single(text)
    except HydraException:
        return False
    return True


def value_count(override: Override) -> float:
    """Return how many values an override sweeps over, without making those of a range; infinite if they do not end."""
    value: Any = override.value()
    if isinstance(value, RangeSweep):
        step = float(value.step)
        span = float(value.stop) - float(value.start)
        return max(0, math.ceil(span / step)) if step and math.isfinite(span / step) else math.inf
    return len(value.list) if isinstance(value, ChoiceSweep) else 1


def quoted(text: str) -> str:
    """Return a text in quotes, with which Hydra's grammar reads all characters; `${...}` is still resolved."""
    return QuotedString(text, Quote.single).with_quotes()


def single(text: str) -> Override:
    """Return the override that a word describes; the word must not be a sweep."""
    return OverridesParser.create().parse_override(text)


def _reason(error: Exception) -> str:
    """Return the parser's message, unless it names internals of the parser."""
    words = first_line(error)
    return "" if "Exception" in words else f" ({words})"


def _with_quotes(text: str) -> str:
    """Return a hint how to type a value that is a text; nothing if that would not help."""
    key, found, value = text.partition("=")
    if not found or not value or value[0] in "[{'\"" or not is_readable(f"{key}={quoted(value)}"):
        return ""
    return f"; a text with such characters is typed with two kinds of quotes, '{key}=\"{value}\"'"


def _wrong_choices(override: Override, options: Sequence[str]) -> list[str]:
    if override.is_delete():
        return ["~recipe: use recipe=none"] if override.key_or_group == RECIPE else []
    value: Any = override.value()
    chosen = value if isinstance(value, list) else [value]
    group = override.key_or_group
    if isinstance(value, list) and group not in SEVERAL:
        return [
            f"{group}={override.get_value_string()}: only {' and '.join(SEVERAL)} take several options; "
            f"choose one of {', '.join(options)}"
        ]
    if value is None:
        return [f"{group}=null: choose one of {', '.join(options)}"]
    return [
        f"{group}={choice}: no such option; choose one of {', '.join(options)}{nearest(str(choice), options)}"
        for choice in chosen
        if str(choice) not in options
    ]


def _composition_problem(error: Exception, groups: Sequence[str]) -> str:
    if any(AUDITOR in word for word in groups) and AUDITOR in str(error):
        return "auditor: the chosen unlearner has no auditor (try unlearner=sg)"
    return first_line(error) if groups else str(error)


def _apply(config: DictConfig, override: Override, problems: list[str]) -> None:
    key = override.key_or_group
    parent, _, name = key.rpartition(".")
    if override.is_delete():
        holder = OmegaConf.select(config, parent) if parent else config
        if isinstance(holder, DictConfig) and name in holder:
            del holder[name]
        else:
            problems.append(f"~{key}: no such option")
        return
    if key in (*GROUPS, *BLOCKS):
        option = {ORIGINAL: "path", SEEDS: "unlearning", AUDITS: "relearning"}.get(key)
        hint = f" (try {key}.{option}={override.get_value_string()})" if option else ""
        problems.append(f"{key}={override.get_value_string()}: no such option{hint}")
    elif "." in key and not isinstance(OmegaConf.select(config, parent), DictConfig):
        problems.append(f"{key}: no such option{nearest(key, _keys(config))}")
    else:
        OmegaConf.update(config, key, override.value(), merge=False, force_add=True)


def _keys(config: DictConfig) -> list[str]:
    """Return every key of the config in its full form."""

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for name, value in node.items():
            yield f"{prefix}{name}"
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")

    return list(walk(OmegaConf.to_container(config), ""))
