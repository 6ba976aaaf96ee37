"""One run in its folder, from the start or from where an earlier attempt ended, and its output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.cli.problems import RunFailed, fail, in_words, print_text, refuse
from advunlearn.runtime.terminal import table_width

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from advunlearn.evaluation.metrics_file import Metrics


def run_in(
    folder: Path, config: DictConfig, about: dict[str, Any], *, resumed: bool = False, quiet: bool = False
) -> float | None:
    """Run a composed config in a folder, print the table of its results, and return its objective; see `Result`.

    Args:
        folder, config, about: of the run.
        resumed: continue in its folder, or take over the files of a finished run of the same config and data.
        quiet: print nothing, and draw no pictures: one of many runs, whose numbers are in one table.
    """
    from advunlearn.config.experiment import read_experiment
    from advunlearn.runs.manifest import Manifest
    from advunlearn.train import run_experiment

    again = f"advunlearn resume {folder} continues"
    with failures_in_words(folder, again), Manifest(folder, about, config=config, resume=resumed) as manifest:
        result = run_experiment(read_experiment(config), manifest, adopt=resumed, pictures=not quiet)
    if not quiet:
        show(folder, result.measured)
    return result.objective


def audit_in(folder: Path, config: DictConfig, about: dict[str, Any], *, resume: bool = False) -> None:
    """Audit the model of a composed config in a folder, and print the table of its results."""
    from advunlearn.config.experiment import read_experiment
    from advunlearn.runs.manifest import Manifest
    from advunlearn.stages.audit import audit_model

    again = f"advunlearn resume {folder} continues"
    with failures_in_words(folder, again), Manifest(folder, about, config=config, resume=resume) as manifest:
        audit_model(read_experiment(config), manifest)
    show_audit(folder)


def show_audit(folder: Path) -> None:
    """Print what a finished audit found.

    Raises:
        UnreadableFile: if its file is damaged.
    """
    from advunlearn.evaluation.metrics_file import AUDIT, read_audit
    from advunlearn.report.run.terminal import model_table

    print_text(f"\n{model_table(read_audit(folder), table_width())}\n\nwritten: {folder / AUDIT}\n")


@contextlib.contextmanager
def failures_in_words(folder: Path, again: str) -> Iterator[None]:
    """Turn an error that is not a mistake of the user into one line.

    Args:
        folder: of the run, with its log.
        again: how the user can continue after memory was not enough.

    Raises:
        RunFailed: in place of such an error, with the exit status.
    """
    from advunlearn.options import UserError
    from advunlearn.runtime.memory import ShortOfMemory

    try:
        yield
    except (UserError, OSError):
        raise
    except ShortOfMemory as error:
        raise RunFailed(f"{error}; {again} with workers={error.fewer}", error.status) from error
    except Exception as error:  # a bug, of ours or in a part of the user
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFailed(f"{words} (traceback in {folder / 'advunlearn.log'})") from error


def show(folder: Path, metrics: Metrics | None) -> None:
    """Print what a finished run found; of a shard, which has no metrics, that it is done."""
    from advunlearn.report.run.terminal import comparison_table

    if metrics is None:
        print_text("the shadow models of this shard are in the store\n")
        return
    weights = f"unlearned model: {folder / 'unlearned.safetensors'}\n" if "original" in metrics else ""
    print_text(f"\n{comparison_table(metrics, table_width())}\n\n{weights}report: {folder / 'report.html'}\n")


def resume(folder: Path, *, quiet: bool = False) -> int:
    """Run the config of a folder, unless the run is completed, and return the exit status; see `run_in`."""
    from advunlearn.config.yaml_files import read_yaml
    from advunlearn.options import ConfigError, UserError
    from advunlearn.runs.state import about, config_of, state_of

    if state_of(folder).name == "completed":
        if quiet:
            return 0
        print_text(f"{folder}: completed already\n")
        return _show_again(folder)
    try:
        config = read_yaml(config_of(folder))
        known = about(folder)
        kept: dict[str, Any] = {key: known[key] for key in ("overrides", "choices", "verb", "command") if key in known}
        if known.get("verb") == "audit":
            audit_in(folder, config, kept, resume=True)
        else:
            run_in(folder, config, kept, resumed=True, quiet=quiet)
    except ConfigError as error:
        return refuse([f"{folder}: {problem}" for problem in error.problems])
    except (RunFailed, UserError, OSError) as error:  # the others of a sweep continue
        return fail(f"{folder}: {' '.join(in_words(error).split())}", getattr(error, "status", 1))
    return 0


def _show_again(folder: Path) -> int:
    """Print what a completed run found, unless it was a shard; return the exit status."""
    from advunlearn.evaluation.metrics_file import is_audit, read_metrics
    from advunlearn.storage.files import UnreadableFile

    try:
        if is_audit(folder):
            show_audit(folder)
        elif (folder / "metrics.json").is_file():
            show(folder, read_metrics(folder))
    except UnreadableFile as error:
        return fail(error)
    return 0
