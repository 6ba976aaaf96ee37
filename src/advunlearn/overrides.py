"""What a person types behind `run`: composed by Hydra, with all mistakes collected instead of the first one raised."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.config import ATTACK, GROUPS, Experiment, nearest, read_experiment
from advunlearn.folders import config_folder
from advunlearn.options import ConfigError

# An auditor is nested in the unlearner that has one; a person types `auditor=svm`.
_AUDITOR = "auditor@unlearner.auditor"


def version_base() -> dict[str, str]:
    """Return the keyword that Hydra before 1.4 wants and later ones warn of."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def register_resolvers() -> None:
    """Give configs `${uid:}`, four random letters: two runs of one second do not share a folder."""
    OmegaConf.register_new_resolver("uid", lambda: secrets.token_hex(2), use_cache=True, replace=True)


def expand_aliases(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `auditor=X` and `auditor.option=X` in their full form."""
    expanded = []
    for override in overrides:
        if override.startswith("auditor="):
            override = _AUDITOR + override.removeprefix("auditor")
        elif override.startswith("auditor."):
            override = "unlearner." + override
        expanded.append(override)
    return expanded


def experiment_from(overrides: Sequence[str], config_dir: str | None = None) -> Experiment:
    """Return the experiment that these overrides describe; `config_dir` is a folder with a person's own options.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    return next(iter(experiments_from(overrides, config_dir, multirun=False)))


def experiments_from(overrides: Sequence[str], config_dir: str | None = None, *, multirun: bool) -> list[Experiment]:
    """Return the experiments to check for these overrides: the first of a sweep and one for each further value in it.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    register_resolvers()
    problems: list[str] = []
    own = Path(config_dir).absolute() if config_dir else None
    if own is not None and not own.is_dir():
        raise ConfigError([f"--config-dir {config_dir}: no such folder"])
    found: list[Experiment] = []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), **version_base()):
        loader = GlobalHydra.instance().config_loader()
        parsed = _parse(loader, expand_aliases(overrides), multirun, problems)
        for variant in _variants(parsed):
            mistakes: list[str] = []
            config = _compose(loader, [_single(text) for text in variant], own, mistakes)
            if config is not None:
                try:
                    found.append(read_experiment(config))
                except ConfigError as error:
                    mistakes += error.problems
            problems += [mistake for mistake in mistakes if mistake not in problems]
    if problems:
        raise ConfigError(problems)
    return found


def _single(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def _parse(loader: ConfigLoader, overrides: Sequence[str], multirun: bool, problems: list[str]) -> list[list[str]]:
    """Return, for each override that can be read, the single overrides that it sweeps over."""
    parsed = []
    for text in overrides:
        try:
            (override,) = OverridesParser.create(config_loader=loader).parse_overrides([text])
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


def _reason(error: Exception) -> str:
    """Return the parser's own words, unless they speak of its insides."""
    words = str(error).splitlines()[0]
    return "" if "Exception" in words else f" ({words})"


def _variants(parsed: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the first of all, and each further value beside the first of the others: a sum of checks, not a product."""
    first = [values[0] for values in parsed]
    yield first
    for position, values in enumerate(parsed):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]


def _compose(
    loader: ConfigLoader, overrides: Sequence[Override], own: Path | None, problems: list[str]
) -> DictConfig | None:
    """Return the composed config with the values set, or None; unknown values are left to `read_experiment` to find."""
    groups, values = [], []
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra.") or (key.startswith("hydra/") and "=" in str(override.input_line)):
            continue
        options = _options(loader, key, own)
        if options:
            wrong = _wrong_choices(override, options)
            problems += wrong
            if not wrong:
                groups.append(str(override.input_line))
        else:
            values.append(override)
    try:
        searched = [f"hydra.searchpath=[file://{own}]"] if own else []
        config = compose("config", [*searched, *groups])
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_composition_problem(error, groups))
        return None
    OmegaConf.set_struct(config, False)
    for override in values:
        _apply(config, override, problems)
    return config


def _options(loader: ConfigLoader, group: str, own: Path | None) -> list[str]:
    """Return the shipped options of a group and those in a person's own folder, which the loader does not search."""
    mine = sorted((own / group).glob("*.yaml")) if own else []
    return [*loader.get_group_options(group), *(path.stem for path in mine)]


def _wrong_choices(override: Override, options: Sequence[str]) -> list[str]:
    if override.is_delete():
        return []
    value: Any = override.value()
    chosen = value if isinstance(value, list) else [value]
    group = override.key_or_group
    if isinstance(value, list) and group != ATTACK:
        return [
            f"{group}={override.get_value_string()}: only attack takes several options; "
            f"choose one of {', '.join(options)}"
        ]
    return [
        f"{group}={choice}: no such option; choose one of {', '.join(options)}{nearest(str(choice), options)}"
        for choice in chosen
        if choice is not None and str(choice) not in options
    ]


def _composition_problem(error: Exception, groups: Sequence[str]) -> str:
    if _AUDITOR in str(error):
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
