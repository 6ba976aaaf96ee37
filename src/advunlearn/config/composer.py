"""Compose configs with Hydra, and report every mistake in the overrides instead of the first one."""

from __future__ import annotations

import contextlib
import copy
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import omegaconf
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.config.experiment import ATTACK, GROUPS, nearest
from advunlearn.options import ConfigError
from advunlearn.storage.paths import config_folder

RECIPE = "recipe"
# An auditor is nested in its unlearner; users type `auditor=svm`.
AUDITOR = "auditor@unlearner.auditor"
# What was composed of the shipped configs, which do not change while a process runs; Hydra takes a tenth of a second.
_SHIPPED: dict[tuple[str, ...], DictConfig] = {}


def version_base() -> dict[str, str]:
    """Return the keyword that Hydra before 1.4 wants and later ones warn of."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def register_resolvers() -> None:
    """Define `${uid:}`, four random letters, so that two runs of the same second do not share a folder."""
    # OmegaConf 2.3 has a `register_resolver` as well, an older one with another signature.
    name = "register_new_resolver" if omegaconf.__version__.startswith("2.3") else "register_resolver"
    getattr(OmegaConf, name)("uid", lambda: secrets.token_hex(2), use_cache=True, replace=True)


@contextlib.contextmanager
def composer(config_dir: str | None) -> Iterator[Composer]:
    """Yield a composer of the shipped configs and of the user's own in `config_dir`.

    Raises:
        ConfigError: if there is no such folder.
    """
    own = Path(config_dir).absolute() if config_dir else None
    if own is not None and not own.is_dir():
        raise ConfigError([f"--config-dir {config_dir}: no such folder"])
    with _kept_hydra(), initialize_config_dir(str(config_folder()), **version_base()):
        yield Composer(GlobalHydra.instance().config_loader(), own, {} if own else _SHIPPED)


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
        loader: Hydra's, of the shipped configs.
        own: the folder with the user's own options.
        known: what was composed before, by the choices of groups.
        groups: the options of each group that was asked for.
    """

    loader: ConfigLoader
    own: Path | None
    known: dict[tuple[str, ...], DictConfig]
    groups: dict[str, list[str]] = field(default_factory=dict)

    def options(self, group: str) -> list[str]:
        """Return the shipped options of a group and the user's own, which Hydra's loader does not know."""
        if group not in self.groups:
            mine = sorted((self.own / group).glob("*.yaml")) if self.own else []
            self.groups[group] = [*self.loader.get_group_options(group), *(path.stem for path in mine)]
        return self.groups[group]

    def parse(self, overrides: Sequence[str], multirun: bool, problems: list[str]) -> list[list[str]]:
        """Return, for each override that can be read, the single overrides that it sweeps over."""
        parsed = []
        for text in overrides:
            try:
                (override,) = OverridesParser.create(config_loader=self.loader).parse_overrides([text])
                key = text.split("=", 1)[0]
                if not override.is_sweep_override():
                    parsed.append([text])
                elif multirun:
                    parsed.append([f"{key}={value}" for value in override.sweep_string_iterator()])
                else:
                    problems.append(f"{text}: several values are a sweep (try -m {text}; a list is {key}=[...])")
            except (HydraException, OmegaConfBaseException) as error:
                problems.append(f"{text}: cannot be read as key=value{_reason(error)}")
        return parsed

    def compose(self, overrides: Sequence[Override], problems: list[str]) -> DictConfig | None:
        """Return the composed config with the values set and with Hydra's own node, or None.

        Unknown values are found later, by `read_experiment`.
        """
        groups, values = self._sorted(overrides, problems)
        try:
            config = self._composed(groups)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(_composition_problem(error, groups))
            return None
        for override in values:
            _apply(config, override, problems)
        return config

    def _sorted(self, overrides: Sequence[Override], problems: list[str]) -> tuple[list[str], list[Override]]:
        """Return the right choices of groups and the values; Hydra's own are left out."""
        groups, values = [], []
        for override in overrides:
            key = override.key_or_group
            if key.startswith("hydra.") or (key.startswith("hydra/") and "=" in str(override.input_line)):
                continue
            options = self.options(key)
            if options:
                wrong = _wrong_choices(override, options)
                problems += wrong
                if not wrong:
                    groups.append(str(override.input_line))
            else:
                values.append(override)
        return groups, values

    def _composed(self, groups: Sequence[str]) -> DictConfig:
        """Return a copy of the config of these choices."""
        if tuple(groups) not in self.known:
            searched = [f"hydra.searchpath=[file://{self.own}]"] if self.own else []
            self.known[tuple(groups)] = compose("config", [*searched, *groups], return_hydra_config=True)
        config = copy.deepcopy(self.known[tuple(groups)])
        OmegaConf.set_struct(config, False)
        return config


def single(text: str) -> Override:
    """Return the override that a word describes; the word must not be a sweep."""
    return OverridesParser.create().parse_override(text)


def _reason(error: Exception) -> str:
    """Return the parser's message, unless it names internals of the parser."""
    words = str(error).splitlines()[0]
    return "" if "Exception" in words else f" ({words})"


def _wrong_choices(override: Override, options: Sequence[str]) -> list[str]:
    if override.is_delete():
        return ["~recipe: use recipe=none"] if override.key_or_group == RECIPE else []
    value: Any = override.value()
    chosen = value if isinstance(value, list) else [value]
    group = override.key_or_group
    if isinstance(value, list) and group != ATTACK:
        return [
            f"{group}={override.get_value_string()}: only attack takes several options; "
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
    return str(error).splitlines()[0] if groups else str(error)


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
    if key in (*GROUPS, ATTACK):
        problems.append(f"{key}={override.get_value_string()}: no such option")
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
