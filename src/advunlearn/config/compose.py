"""What a person types behind `run`: composed by Hydra, with all mistakes collected instead of the first one raised."""

from __future__ import annotations

import contextlib
import copy
import itertools
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
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

from advunlearn.config import recipes
from advunlearn.config.experiment import ATTACK, GROUPS, Experiment, build_dataset, nearest, read_experiment
from advunlearn.options import ConfigError
from advunlearn.storage.paths import config_folder

Composed = dict[tuple[str, ...], DictConfig]  # by the options of groups

# An auditor is nested in the unlearner that has one; a person types `auditor=svm`.
_AUDITOR = "auditor@unlearner.auditor"
# Our presets of launchers, and the package that each needs.
_LAUNCHER = "hydra/launcher="
_LAUNCHERS = {"slurm": "hydra-submitit-launcher", "joblib": "hydra-joblib-launcher"}


def version_base() -> dict[str, str]:
    """Return the keyword that Hydra before 1.4 wants and later ones warn of."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def register_resolvers() -> None:
    """Give configs `${uid:}`, four random letters: two runs of one second do not share a folder."""
    OmegaConf.register_new_resolver("uid", lambda: secrets.token_hex(2), use_cache=True, replace=True)


def is_installed(package: str | None) -> bool:
    """Is this package there, or None asked for?"""
    try:
        return package is None or bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


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
    return jobs_to_check(overrides, config_dir, multirun=False)[0].experiment


def jobs_to_check(overrides: Sequence[str], config_dir: str | None = None, *, multirun: bool) -> list[Job]:
    """Return the runs to check for these overrides: the first of a sweep and one for each further value in it.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    problems = [
        f"{override} is an extra (pip install 'advunlearn[{override.removeprefix(_LAUNCHER)}]')"
        for override in overrides
        if override.startswith(_LAUNCHER) and not is_installed(_LAUNCHERS.get(override.removeprefix(_LAUNCHER)))
    ]
    with _hydra(config_dir) as (loader, own):
        parsed = _parse(loader, expand_aliases(overrides), multirun, problems)
        return _read_all(loader, _variants(parsed), own, problems)


@dataclass(frozen=True)
class Job:
    """One run, of a sweep for example.

    Attributes:
        overrides: what was typed for it.
        choices: the option of each group.
        experiment: that these make.
        recipe: that was chosen for its dataset; None where the user chose a recipe or an experiment.
    """

    overrides: list[str]
    choices: dict[str, Any]
    experiment: Experiment
    recipe: recipes.Recipe | None


def jobs_from(overrides: Sequence[str], config_dir: str | None = None) -> list[Job]:
    """Return every run of a sweep, an experiment's own `hydra.sweeper.params` included, in Hydra's order.

    Raises:
        ConfigError: with every mistake in any of them, one line each.
    """
    problems: list[str] = []
    with _hydra(config_dir) as (loader, own):
        words = expand_aliases(overrides)
        problems += [f"{word}: submit has options of its own for this" for word in words if _is_hydras(word)]
        typed = _parse(loader, [word for word in words if not _is_hydras(word)], True, problems)
        fixed = [_single(values[0]) for values in typed if len(values) == 1]
        swept = _parse(loader, _sweeper_params(loader, fixed, own), True, problems)
        by_key = {_single(values[0]).get_key_element(): values for values in [*swept, *typed]}
        return _read_all(loader, map(list, itertools.product(*by_key.values())), own, problems)


def _is_hydras(text: str) -> bool:
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def _sweeper_params(loader: ConfigLoader, overrides: Sequence[Override], own: Path | None) -> list[str]:
    """Return what an experiment sweeps over by itself; a mistake in it is found with the runs that it makes."""
    config = _compose(loader, overrides, own, [], {})
    params = OmegaConf.select(config, "hydra.sweeper.params") if config is not None else None
    return [f"{key}={values}" for key, values in (params or {}).items()]


@contextlib.contextmanager
def _hydra(config_dir: str | None) -> Iterator[tuple[ConfigLoader, Path | None]]:
    """Give Hydra's loader of the shipped configs and the folder with a person's own options."""
    register_resolvers()
    own = Path(config_dir).absolute() if config_dir else None
    if own is not None and not own.is_dir():
        raise ConfigError([f"--config-dir {config_dir}: no such folder"])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), **version_base()):
        yield GlobalHydra.instance().config_loader(), own


def _read_all(loader: ConfigLoader, runs: Iterable[list[str]], own: Path | None, problems: Sequence[str]) -> list[Job]:
    """Return the runs that these overrides make; `problems` are those found before.

    Raises:
        ConfigError: with every mistake, each once.
    """
    found, mistakes = [], list(problems)
    composed: Composed = {}
    for overrides in runs:
        typed = [_single(text) for text in overrides]
        chosen = _recipe_for(loader, typed, own, composed)
        words = [_single(f"{recipes.RECIPE}={chosen[0]}")] if chosen else []
        config = _compose(loader, [*words, *typed], own, mistakes, composed)
        if config is None:
            continue
        choices: Any = OmegaConf.to_container(config.pop("hydra").runtime.choices)
        recipe = _described(loader, chosen, typed, choices, config, own, composed) if chosen else None
        try:
            found.append(Job(overrides, choices, read_experiment(config), recipe))
        except ConfigError as error:
            mistakes += [_with_its_origin(problem, overrides, choices) for problem in error.problems]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return found


def _recipe_for(
    loader: ConfigLoader, typed: Sequence[Override], own: Path | None, composed: Composed
) -> tuple[str, str] | None:
    """Return the recipe of the run's dataset and the reason for it, unless the user chose a setting.

    A file of the dataset's name, among the user's own options for example, comes before the choice by size.
    """
    if recipes.is_chosen(typed):
        return None
    of_dataset = [each for each in typed if each.key_or_group.split(".")[0] == "dataset"]
    config = _compose(loader, of_dataset, own, [], composed)
    if config is None:
        return None
    name = config.hydra.runtime.choices.dataset
    if name in _options(loader, recipes.RECIPE, own):
        return name, f"dataset={name}"
    try:
        dataset = build_dataset(OmegaConf.to_container(config.dataset, resolve=True))
        return None if dataset is None else recipes.by_size(dataset.info())
    except (ValueError, OmegaConfBaseException):  # a mistake, which is found with all others
        return None


def _described(
    loader: ConfigLoader,
    chosen: tuple[str, str],
    typed: Sequence[Override],
    choices: Mapping[str, Any],
    config: DictConfig,
    own: Path | None,
    composed: Composed,
) -> recipes.Recipe:
    """Return the recipe with what it brought: what differs from the same options without it."""
    plain = _compose(loader, typed, own, [], composed)
    same = [_single(f"{group}={choices[group]}") for group in GROUPS if choices[group]]
    parts = _compose(loader, [*same, *typed], own, [], composed)
    if plain is None or parts is None:
        return recipes.Recipe(*chosen, [])
    before = plain.hydra.runtime.choices
    groups = [f"{group}={choices[group]}" for group in GROUPS if choices[group] != before[group]]
    del parts["hydra"]
    raw, other = (OmegaConf.to_container(each, throw_on_missing=False) for each in (config, parts))
    return recipes.Recipe(*chosen, groups + recipes.differences(raw, other))  # type: ignore[arg-type]


def _with_its_origin(problem: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Say of an option that is none where it may come from, if nobody typed it."""
    key, found, _ = problem.partition(": no such option")
    typed = tuple(text.lstrip("+").split("=")[0] for text in overrides)
    experiment = choices.get("experiment")
    if not found or experiment is None or key.endswith(typed):
        return problem
    return f"{key}: no such option (does experiment={experiment} set it? then ~{key} takes it out)"


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
    loader: ConfigLoader,
    overrides: Sequence[Override],
    own: Path | None,
    problems: list[str],
    composed: Composed,
) -> DictConfig | None:
    """Return the composed config with the values set and with Hydra's own node, or None.

    Unknown values are found later, by `read_experiment`.
    Composition takes Hydra a tenth of a second; `composed` keeps what other runs of the same options composed.
    """
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
        if tuple(groups) not in composed:
            composed[tuple(groups)] = compose("config", [*searched, *groups], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_composition_problem(error, groups))
        return None
    config = copy.deepcopy(composed[tuple(groups)])
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
        return ["~recipe: use recipe=none"] if override.key_or_group == recipes.RECIPE else []
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
    if any(_AUDITOR in word for word in groups) and _AUDITOR in str(error):
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
