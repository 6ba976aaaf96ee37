"""Compose the experiments that the overrides of a command describe."""

from __future__ import annotations

import argparse
import collections
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.config.composer import AUDITOR, RECIPE, Composer, composer, is_readable, quoted, single
from advunlearn.config.part_files import GROUPS
from advunlearn.config.recipes import Recipe, Recipes
from advunlearn.config.search_path import is_search_path
from advunlearn.config.swept import Swept, swept_by
from advunlearn.config.where_known import distinct_runs
from advunlearn.options import ConfigError
from advunlearn.runtime.settings import OBJECTIVES

if TYPE_CHECKING:
    from advunlearn.config.experiment import Experiment

_FREE = tuple(f"{group}.arguments." for group in GROUPS)

# Presets of launchers and sweepers that are extras: the packages that each needs, and how to install them.
_SWEEPER = "hydra/sweeper="
_OPTUNA = f"{_SWEEPER}optuna"
_EXTRAS = {
    "hydra/launcher=slurm": (["hydra-submitit-launcher"], "pip install 'advunlearn[slurm]'"),
    "hydra/launcher=joblib": (["hydra-joblib-launcher"], "pip install 'advunlearn[joblib]'"),
    _OPTUNA: (  # it wants optuna<3, and works with the one of `advunlearn tune`
        ["hydra-optuna-sweeper", "optuna"],
        "pip install 'advunlearn[tune]'; pip install --no-deps hydra-optuna-sweeper",
    ),
}


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


def hydra_words(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra reads them.

    `auditor=X` and `auditor.option=X` get their full form, and the name of a file or folder that Hydra's grammar cannot
    read, such as `dataset.path=~/été (2).npz`, gets quotes. Arguments, whose names no file lists, may be new.
    """
    words = []
    for word in overrides:
        mark = "~" if word.startswith("~") else ""
        override = word.removeprefix(mark)
        if override.startswith("auditor="):
            override = AUDITOR + override.removeprefix("auditor")
        elif override.startswith("auditor."):
            override = "unlearner." + override
        elif override.startswith(_FREE) and not mark:
            override = "++" + override
        words.append(mark + _with_quoted_path(override))
    return words


def _with_quoted_path(override: str) -> str:
    key, _, value = override.partition("=")
    if key.rpartition(".")[2] not in ("path", "dir", "run") or is_readable(override):
        return override
    word = f"{key}={quoted(value)}"
    return word if is_readable(word) else override


def experiment_from(overrides: Sequence[str], config_dir: str | Path | None = None) -> Experiment:
    """Return the experiment that these overrides describe; `config_dir` is a folder with the user's own options.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    return jobs_to_check(overrides, config_dir, multirun=False)[0].experiment


def jobs_to_check(overrides: Sequence[str], config_dir: str | Path | None = None, *, multirun: bool) -> list[Job]:
    """Return the runs to check for these overrides: the first of a sweep and one for each further value in it.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    with composer(config_dir, overrides) as here:
        words, search = hydra_words(overrides), _is_search(overrides)
        problems = [*_missing_extras(overrides), *_marked(words)]
        swept = swept_by(here, words, problems, multirun=multirun, search=search)
        return list(_read_all(here, swept.variants(), swept))


def _marked(words: Sequence[str]) -> list[str]:
    """Return a line for each `~key=values`, which one run, a search and Hydra's own launchers cannot skip."""
    return [
        f"{word}: only a plain sweep (advunlearn run -m) or submit leaves out what a method lacks (try {word[1:]})"
        for word in words
        if word.startswith("~") and "=" in word
    ]


def recipe_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> Recipe | None:
    """Return the recipe of the first run that these overrides describe; the values of its options are not checked.

    Raises:
        ConfigError: with every other mistake in them, one line each.
    """
    words = hydra_words(overrides)
    problems = _marked(words)
    with composer(config_dir, overrides) as here:
        parsed = [each for each in here.parse(words, problems) if not each.is_hydra_override()]
        first = [single(values[0]) for each in parsed if (values := here.values(each, problems))]
        here.compose(first, problems)
        if problems:
            raise ConfigError(problems)
        return Recipes(here).recipe_for(first)


def check_sweep(overrides: Sequence[str], config_dir: str | Path | None = None) -> tuple[Job, int]:
    """Return the first run of a sweep and the number of its runs, after a check of every value in it.

    Raises:
        ConfigError: with every mistake in them, one line each.
    """
    with composer(config_dir, overrides) as here:
        swept = swept_by(here, hydra_words(overrides), _missing_extras(overrides))
        jobs = _read_all(here, swept.variants(), swept)
        first = next(jobs)
        collections.deque(jobs, maxlen=0)  # each is checked and dropped
        return first, sum(1 for _ in distinct_runs(here, swept.runs(), swept.marked, []))


def _missing_extras(overrides: Sequence[str]) -> list[str]:
    chosen = {word: _EXTRAS[word] for word in overrides if word in _EXTRAS}
    return [
        f"{word} is an extra ({command})"
        for word, (packages, command) in chosen.items()
        if not all(map(is_installed, packages))
    ]


def words_for_sweeper(overrides: Sequence[str], objective: str) -> list[str]:
    """Return what Optuna's sweeper has to be told besides the typed words: which way the objective is better.

    Raises:
        ConfigError: if the typed direction is the other one.
    """
    if _OPTUNA not in overrides:
        return []
    right = f"hydra.sweeper.direction={OBJECTIVES[objective]}"
    typed = [word for word in overrides if word.startswith("hydra.sweeper.direction=")]
    if wrong := [word for word in typed if word != right]:
        raise ConfigError([f"{wrong[0]}: objective={objective} is to be {OBJECTIVES[objective]}d (try {right})"])
    return [] if typed else [right]


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


def jobs_from(overrides: Sequence[str], config_dir: str | Path | None = None) -> list[Job]:
    """Return every run of a sweep, an experiment's own `hydra.sweeper.params` included, in Hydra's order.

    Raises:
        ConfigError: with every mistake in any of them, one line each.
    """
    with composer(config_dir, overrides) as here:
        return jobs_in(here, overrides)


def jobs_in(here: Composer, overrides: Sequence[str]) -> list[Job]:
    """Return every run of a sweep; for several sweeps, one composer is faster than one for each. See `jobs_from`."""
    words = hydra_words(overrides)
    problems = [f"{word}: submit has options of its own for this" for word in words if _is_hydras(word)]
    swept = swept_by(here, words, problems)
    return list(_read_all(here, swept.runs(), swept))


def named_folder(word: str, others: Sequence[str] = (), config_dir: str | Path | None = None) -> Path:
    """Return the folder that `hydra.run.dir=...` or `hydra.sweep.dir=...` names, next to other words of a command.

    Raises:
        ConfigError: if Hydra cannot read or resolve it.
    """
    with composer(config_dir, others) as here:
        return here.named_folder(word, [each for each in others if not is_search_path(each)])


def _is_hydras(text: str) -> bool:
    return text.lstrip("+~").startswith(("hydra.", "hydra/")) and not is_search_path(text)


def _is_search(overrides: Sequence[str]) -> bool:
    """Return whether a sweeper is chosen that does not run all combinations, as Hydra's own does."""
    return any(word.startswith(_SWEEPER) and word != f"{_SWEEPER}basic" for word in overrides)


def _read_all(here: Composer, runs: Iterable[list[str]], swept: Swept) -> Iterator[Job]:
    """Yield the runs that these overrides make.

    Raises:
        ConfigError: at the end, with every mistake in any of them, each once.
    """
    from advunlearn.config.experiment import read_experiment  # torch is imported with the parts

    mistakes, recipes = list(swept.problems), Recipes(here)
    for overrides in distinct_runs(here, runs, swept.marked, mistakes):
        typed = [single(text) for text in overrides]
        recipe = recipes.recipe_for(typed)
        words = [single(f"{RECIPE}={recipe.name}")] if recipe else []
        composed = here.compose([*words, *typed], mistakes)
        if composed is None:
            continue
        try:
            experiment = read_experiment(composed.config)
        except ConfigError as error:
            mistakes += [_with_its_origin(problem, overrides, composed.choices) for problem in error.problems]
        else:
            yield Job(overrides, composed.choices, experiment, recipe)
    if mistakes:
        raise ConfigError(_without_consequences(list(dict.fromkeys(mistakes))))


def _without_consequences(problems: Sequence[str]) -> list[str]:
    """Leave out what is wrong only because an override of the same key, or of its group, could not be used."""
    unused = {_key(problem) for problem in problems if problem.startswith(f"{_key(problem)}=")}
    return [
        problem
        for problem in problems
        if problem.startswith(f"{_key(problem)}=")
        or not (
            _key(problem) in unused or (": no such option" in problem and _key(problem).partition(".")[0] in unused)
        )
    ]


def _key(problem: str) -> str:
    """Return the key that a problem begins with."""
    return re.split(r"[\s:=]", problem, maxsplit=1)[0]


def _with_its_origin(problem: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Return the problem; for an unknown option that the user did not type, with the experiment that may set it."""
    key, found, _ = problem.partition(": no such option")
    typed = tuple(text.lstrip("+").split("=")[0] for text in overrides)
    experiment = choices.get("experiment")
    if not found or experiment is None or key.endswith(typed):
        return problem
    return f"{key}: no such option (does experiment={experiment} set it? then ~{key} takes it out)"
