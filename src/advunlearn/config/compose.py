"""What a person types behind `run`: composed by Hydra, with all mistakes collected instead of the first one raised."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from advunlearn.config import recipes
from advunlearn.config.composer import AUDITOR, RECIPE, Composer, composer, single
from advunlearn.config.experiment import Experiment, read_experiment
from advunlearn.options import ConfigError

# Our presets of launchers, and the package that each needs.
_LAUNCHER = "hydra/launcher="
_LAUNCHERS = {"slurm": "hydra-submitit-launcher", "joblib": "hydra-joblib-launcher"}


def is_installed(package: str | None) -> bool:
    """Is this package there, or None asked for?"""
    try:
        return package is None or bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def split_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags and overrides after `run` as Hydra's own parser reads them, and the words that it does not know.

    This is the only place that uses a private part of Hydra, which has no public one for it.
    """
    from hydra._internal.utils import get_args_parser

    return get_args_parser().parse_known_args(list(arguments))


def expand_aliases(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `auditor=X` and `auditor.option=X` in their full form."""
    expanded = []
    for override in overrides:
        if override.startswith("auditor="):
            override = AUDITOR + override.removeprefix("auditor")
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
    with composer(config_dir) as here:
        parsed = here.parse(expand_aliases(overrides), multirun, problems)
        return _read_all(here, _variants(parsed), problems)


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
    with composer(config_dir) as here:
        words = expand_aliases(overrides)
        problems += [f"{word}: submit has options of its own for this" for word in words if _is_hydras(word)]
        typed = here.parse([word for word in words if not _is_hydras(word)], True, problems)
        fixed = [single(values[0]) for values in typed if len(values) == 1]
        swept = here.parse(_sweeper_params(here, fixed), True, problems)
        by_key = {single(values[0]).get_key_element(): values for values in [*swept, *typed]}
        return _read_all(here, map(list, itertools.product(*by_key.values())), problems)


def _is_hydras(text: str) -> bool:
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def _sweeper_params(here: Composer, overrides: Sequence[Override]) -> list[str]:
    """Return what an experiment sweeps over by itself; a mistake in it is found with the runs that it makes."""
    config = here.compose(overrides, [])
    params = OmegaConf.select(config, "hydra.sweeper.params") if config is not None else None
    return [f"{key}={values}" for key, values in (params or {}).items()]


def _read_all(here: Composer, runs: Iterable[list[str]], problems: Sequence[str]) -> list[Job]:
    """Return the runs that these overrides make; `problems` are those found before.

    Raises:
        ConfigError: with every mistake, each once.
    """
    found, mistakes = [], list(problems)
    for overrides in runs:
        typed = [single(text) for text in overrides]
        chosen = recipes.choose(here, typed)
        words = [single(f"{RECIPE}={chosen[0]}")] if chosen else []
        config = here.compose([*words, *typed], mistakes)
        if config is None:
            continue
        choices: Any = OmegaConf.to_container(config.pop("hydra").runtime.choices)
        recipe = recipes.describe(here, chosen, typed, choices, config) if chosen else None
        try:
            found.append(Job(overrides, choices, read_experiment(config), recipe))
        except ConfigError as error:
            mistakes += [_with_its_origin(problem, overrides, choices) for problem in error.problems]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return found


def _with_its_origin(problem: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Say of an option that is none where it may come from, if nobody typed it."""
    key, found, _ = problem.partition(": no such option")
    typed = tuple(text.lstrip("+").split("=")[0] for text in overrides)
    experiment = choices.get("experiment")
    if not found or experiment is None or key.endswith(typed):
        return problem
    return f"{key}: no such option (does experiment={experiment} set it? then ~{key} takes it out)"


def _variants(parsed: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the first of all, and each further value beside the first of the others: a sum of checks, not a product."""
    first = [values[0] for values in parsed]
    yield first
    for position, values in enumerate(parsed):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]
