"""Compose the experiments that the overrides of a command describe."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from omegaconf import OmegaConf

from advunlearn.config.composer import AUDITOR, RECIPE, Composer, composer, single
from advunlearn.config.experiment import Experiment, read_experiment
from advunlearn.config.recipes import Recipe, Recipes
from advunlearn.options import ConfigError

# Our presets of launchers, and the package that each needs.
_LAUNCHER = "hydra/launcher="
_LAUNCHERS = {"slurm": "hydra-submitit-launcher", "joblib": "hydra-joblib-launcher"}


def is_installed(package: str | None) -> bool:
    """Return whether the package is installed; True for None."""
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
    """Return the experiment that these overrides describe; `config_dir` is a folder with the user's own options.

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
    """One run.

    Attributes:
        overrides: the overrides that the user typed for it.
        choices: the option of each group.
        experiment: the experiment that they describe.
        recipe: that was chosen for its dataset; None where the user chose a recipe or an experiment.
    """

    overrides: list[str]
    choices: dict[str, Any]
    experiment: Experiment
    recipe: Recipe | None


def jobs_from(overrides: Sequence[str], config_dir: str | None = None) -> list[Job]:
    """Return every run of a sweep, an experiment's own `hydra.sweeper.params` included, in Hydra's order.

    Raises:
        ConfigError: with every mistake in any of them, one line each.
    """
    problems: list[str] = []
    with composer(config_dir) as here:
        words = expand_aliases(overrides)
        problems += [f"{word}: submit has options of its own for this" for word in words if _is_hydras(word)]
        values = _swept(here, [word for word in words if not _is_hydras(word)], problems)
        return _read_all(here, map(list, itertools.product(*values)), problems)


def run_count(overrides: Sequence[str], config_dir: str | None = None) -> int:
    """Return how many runs a sweep has, without composing them."""
    with composer(config_dir) as here:
        words = [word for word in expand_aliases(overrides) if not _is_hydras(word)]
        return math.prod(map(len, _swept(here, words, [])))


def _is_hydras(text: str) -> bool:
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def _swept(here: Composer, words: Sequence[str], problems: list[str]) -> list[list[str]]:
    """Return, for each key of a sweep, the overrides of its runs; typed ones replace those of the experiment itself."""
    typed = here.parse(words, True, problems)
    config = here.compose([single(values[0]) for values in typed if len(values) == 1], [])
    # A mistake in the experiment's own words is found with the runs that they make.
    params = OmegaConf.select(config, "hydra.sweeper.params") if config is not None else None
    own = here.parse([f"{key}={values}" for key, values in (params or {}).items()], True, problems)
    return list({single(values[0]).get_key_element(): values for values in [*own, *typed]}.values())


def _read_all(here: Composer, runs: Iterable[list[str]], problems: Sequence[str]) -> list[Job]:
    """Return the runs that these overrides make; `problems` are those found before.

    Raises:
        ConfigError: with every mistake, each once.
    """
    found, mistakes, recipes = [], list(problems), Recipes(here)
    for overrides in runs:
        typed = [single(text) for text in overrides]
        recipe = recipes.recipe_for(typed)
        words = [single(f"{RECIPE}={recipe.name}")] if recipe else []
        config = here.compose([*words, *typed], mistakes)
        if config is None:
            continue
        choices: Any = OmegaConf.to_container(config.pop("hydra").runtime.choices)
        try:
            found.append(Job(overrides, choices, read_experiment(config), recipe))
        except ConfigError as error:
            mistakes += [_with_its_origin(problem, overrides, choices) for problem in error.problems]
    if mistakes:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return found


def _with_its_origin(problem: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Return the problem; if it is an unknown option that nobody typed, name the experiment that may set it."""
    key, found, _ = problem.partition(": no such option")
    typed = tuple(text.lstrip("+").split("=")[0] for text in overrides)
    experiment = choices.get("experiment")
    if not found or experiment is None or key.endswith(typed):
        return problem
    return f"{key}: no such option (does experiment={experiment} set it? then ~{key} takes it out)"


def _variants(parsed: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the first run, and one for each further value with the first of the others: a sum, not a product."""
    first = [values[0] for values in parsed]
    yield first
    for position, values in enumerate(parsed):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]
