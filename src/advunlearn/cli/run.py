"""`advunlearn run`."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.cli.again import answer, command_key, remember
from advunlearn.cli.problems import RunFailed, fail, refuse
from advunlearn.runtime.terminal import asked, remark

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from advunlearn.config.compose import Job
    from advunlearn.config.recipes import Recipe

_HELP = {"--help", "-h"}
_SHOW_FLAGS = {"--cfg", "-c", "--info", "-i", *_HELP}
_HYDRA_FLAGS = {"--hydra-help", "--version", "--shell-completion", "-sc"}  # they show nothing of a run
SWEEP_DIR = "hydra.sweep.dir="


def main(arguments: list[str]) -> int:
    """`advunlearn run`: check every override, then hand them to Hydra."""
    processes = os.environ.get("WORLD_SIZE", "1")  # what torchrun sets
    if processes != "1":
        return refuse([f"WORLD_SIZE={processes}: one run uses all GPUs by itself (leave out torchrun)"])
    # Hydra takes overrides on both sides of a flag for mistakes.
    overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    arguments = overrides + [word for word in arguments if word not in overrides]
    key = command_key(arguments)
    status = answer(arguments, key)
    if status is not None:
        return status
    own_sweep = _is_own_sweep(arguments)  # which checks all of its runs
    from advunlearn.config.compose import hydra_words, split_arguments, words_for_sweeper
    from advunlearn.options import ConfigError
    from advunlearn.runtime.signals import heed_signals

    if split_arguments(arguments)[0].experimental_rerun:  # also next to --help, as Hydra would read the file first
        return refuse(["--experimental-rerun unpickles a file, which can run any code (try advunlearn resume RUN)"])
    recipe = None
    if not own_sweep and not _HYDRA_FLAGS.intersection(arguments):
        try:
            if _HELP & set(arguments):
                recipe = _recipe_for_help(arguments)
            else:
                jobs = _check(arguments)
                recipe = _recipe(jobs)
                objective = jobs[0].experiment.settings.objective if jobs else "utility"
                arguments = [*words_for_sweeper(arguments, objective), *arguments]
        except ConfigError as error:
            return refuse(error.problems)
    with heed_signals():
        if own_sweep:
            return _sweep(arguments)
        return _start_hydra(hydra_words(arguments), recipe, key)


def _is_own_sweep(arguments: list[str]) -> bool:
    """Return whether it is a sweep without Hydra's own launchers, sweepers and folders."""
    if not {"-m", "--multirun"}.intersection(arguments):
        return False
    flags = [word for word in arguments if word.startswith("-") and not word.startswith("--config-dir=")]
    known = (SWEEP_DIR, "hydra.searchpath=")
    others = [word for word in arguments if word.lstrip("+").startswith("hydra") and not word.startswith(known)]
    return not others and set(flags) <= {"-m", "--multirun", "--config-dir", "-cd"}


def _sweep(arguments: list[str]) -> int:
    """Freeze every run of the sweep, then do one after another; a failed one does not stop the others."""
    from advunlearn.cli.many_runs import run_all
    from advunlearn.config.compose import hydra_words, jobs_from, named_folder, split_arguments
    from advunlearn.options import ConfigError
    from advunlearn.sweeps.freeze import freeze, new_folder

    known, unknown = split_arguments(arguments)
    words = hydra_words([*known.overrides, *unknown])
    named = [word for word in words if word.startswith(SWEEP_DIR)]
    try:
        folder = named_folder(named[-1]) if named else new_folder()
        jobs = jobs_from([word for word in words if not word.startswith(SWEEP_DIR)], known.config_dir)
        freeze(folder, jobs)
    except ConfigError as error:
        return refuse(error.problems)
    return run_all(folder, jobs, recipes=True)


def _check(arguments: list[str]) -> list[Job]:
    """Return the runs that were checked: none for a config of the user's own, which Hydra and the run itself check.

    Raises:
        ConfigError: with every mistake in the words after `run`.
    """
    from advunlearn.config.compose import jobs_to_check

    words = _words_of(arguments)
    return jobs_to_check(*words[:2], multirun=words[2]) if words else []


def _words_of(arguments: list[str]) -> tuple[list[str], str | None, bool] | None:
    """Return overrides, `--config-dir` and whether it is a sweep; None for a config of the user's own.

    Raises:
        ConfigError: for flags that do not exist.
    """
    from advunlearn.config.compose import split_arguments
    from advunlearn.options import ConfigError

    known, unknown = split_arguments(arguments)
    flags = [word for word in unknown if word.startswith("-")]
    if flags:
        raise ConfigError([f"{flag}: no such flag (see advunlearn run --hydra-help)" for flag in flags])
    if known.config_name or known.config_path:
        return None
    return [*known.overrides, *unknown], known.config_dir, known.multirun


def _recipe_for_help(arguments: list[str]) -> Recipe | None:
    """Return the recipe that the help shows; the options are not checked, which would import torch.

    Raises:
        ConfigError: with every mistake in the words.
    """
    from advunlearn.config.compose import recipe_of

    words = _words_of(arguments)
    return recipe_of(*words[:2]) if words else None


def _recipe(jobs: list[Job]) -> Recipe | None:
    """Return the recipe that suits the dataset of all these runs.

    Raises:
        ConfigError: if Hydra's own sweep would need several, as it has one list of overrides for all its runs.
    """
    from advunlearn.options import ConfigError

    chosen = {job.recipe.name if job.recipe else None: job.recipe for job in jobs}
    if len(chosen) > 1:
        names = ", ".join(str(name) for name in chosen)
        raise ConfigError(
            [f"recipe: these datasets need several ({names}); use advunlearn submit, or choose one (try recipe=none)"]
        )
    return next(iter(chosen.values()), None)


def _start_hydra(arguments: list[str], recipe: Recipe | None, key: dict[str, Any] | None) -> int:
    import hydra

    from advunlearn.config.compose import split_arguments
    from advunlearn.config.composer import main_keywords, register_resolvers
    from advunlearn.config.search_path import is_search_path, search_path, searched
    from advunlearn.config.yaml_files import yaml_errors
    from advunlearn.storage.paths import config_folder

    register_resolvers()
    known = split_arguments(_line_to_complete() or arguments)[0]
    folders = search_path(known.config_dir, known.overrides)
    arguments = [word for word in arguments if not is_search_path(word)]  # Hydra would search them a second time
    if recipe is not None and _SHOW_FLAGS.intersection(arguments):
        remark(f"{recipe}\n")
    if asked.quiet or known.multirun:  # Hydra has a line for each run of a sweep
        arguments.insert(0, "++hydra.job_logging.handlers.console.level=WARNING")
    sys.argv = [sys.argv[0], *([f"recipe={recipe.name}"] if recipe else []), *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back here as they are

    failures: list[Exception] = []
    here = os.getpid()

    @functools.wraps(job)
    def task(config: DictConfig) -> float | None:
        try:
            return job(config, recipe, key)
        except Exception as error:
            if os.getpid() != here:  # a launcher's process: only what is raised comes back
                raise
            failures.append(_named(error))  # otherwise Hydra would print its own line first
            return None

    try:
        with yaml_errors(folders), searched(folders):
            hydra.main(config_path=str(config_folder()), config_name="config", **main_keywords())(task)()
    except Exception as error:  # Hydra's own are of many families; a bug is raised to the caller
        if not failures:  # else it may be the sweeper's, which has no result to choose from
            failures.append(error)
    return max(map(_report, failures), default=0)


def _named(error: Exception) -> Exception:
    """Return an error of the user with the run of a sweep that it ended; any other as it is."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from advunlearn.options import ConfigError, UserError

    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN or not isinstance(error, UserError):
        return error
    where = f"{hydra_config.runtime.output_dir} ({hydra_config.job.override_dirname})"
    named = [f"{where}: {problem}" for problem in error.problems]
    return ConfigError(named) if isinstance(error, ConfigError) else UserError(*named)


def _line_to_complete() -> list[str]:
    """Return the words after `advunlearn run` that the shell wants to complete, without a `run` that Hydra would read.

    None outside of completion.
    """
    program, *words = os.environ.get("COMP_LINE", "").split(" ") or [""]
    if words[:1] == ["run"]:
        words = words[1:]
        os.environ["COMP_LINE"] = " ".join([program, *words])
    return words


def _report(error: Exception) -> int:
    """Report in one line why a run failed, or Hydra did not start it, and return the exit status."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from advunlearn.options import ConfigError, UserError, first_line

    if isinstance(error, ConfigError):
        return refuse(error.problems)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return refuse([first_line(error)])
    if isinstance(error, (RunFailed, UserError)):
        return fail(error)
    raise error


def job(config: DictConfig, recipe: Recipe | None, key: dict[str, Any] | None) -> float | None:
    """Run one composed config in the folder that Hydra made for it, and print the table of its results.

    The objective is returned, for a sweeper that searches.

    The recipe was chosen for it, and is one of its overrides, which was not typed. The key is that of the command.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from advunlearn.cli.one_run import run_in
    from advunlearn.options import UserError
    from advunlearn.report.summary.at_end import is_search

    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    if recipe is not None:
        if hydra_config.mode == RunMode.RUN or hydra_config.job.num == 0:
            remark(f"{recipe}\n")
        overrides.remove(f"recipe={recipe.name}")
    about = {
        "overrides": overrides,
        "choices": OmegaConf.to_container(hydra_config.runtime.choices),
        **({"sweep": str(hydra_config.sweep.dir)} if hydra_config.mode == RunMode.MULTIRUN else {}),
    }
    restarted = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # Hydra's launcher calls this again in its folder
    folder = Path(hydra_config.runtime.output_dir)
    searching = hydra_config.mode == RunMode.MULTIRUN and is_search(hydra_config)
    objective = run_in(folder, config, about, resumed=restarted, quiet=searching)  # test numbers of the choice only
    remember(key, folder)
    if searching and objective is None:
        raise UserError(f"the run has no {config.objective} for the search: no selection examples of these classes")
    return objective
