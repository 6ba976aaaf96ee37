"""`advunlearn resume`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from advunlearn.cli.problems import fail, in_words, refuse

LOG: dict[str, Any] = {"level": logging.INFO, "format": "%(asctime)s %(message)s", "datefmt": "%H:%M:%S"}


def main(arguments: list[str]) -> int:
    """`advunlearn resume`: go on with runs that were killed, interrupted, have failed or were never begun."""
    parser = argparse.ArgumentParser("advunlearn resume", description=main.__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a run's folder, or a sweep's: each run in it that is not done",
    )
    options = parser.parse_args(arguments)
    from advunlearn.interruption import heed_signals
    from advunlearn.report.sweep import tell_of_sweep

    logging.basicConfig(**LOG)
    problems = [f"{path}: no run at or below it" for path in options.runs if not _resumable(path)]
    if problems:
        return refuse(problems)
    statuses = []
    with heed_signals():
        for path in options.runs:
            folders = _resumable(path)
            statuses += [resume(folder) for folder in folders]
            if folders != [path]:
                tell_of_sweep(path)
    return max(statuses)


def _resumable(path: Path) -> list[Path]:
    """Return the runs at and below a path that can be gone on with: a config says what they are."""
    from advunlearn.runs import runs_below

    return [folder for folder in runs_below(path) if (folder / "config.yaml").is_file()]


def resume(folder: Path) -> int:
    """Run what a folder's config says, unless it is completed, and return the exit status."""
    from omegaconf import DictConfig, OmegaConf

    from advunlearn.cli.run import run_in, show
    from advunlearn.options import ConfigError
    from advunlearn.runs import state_of

    if state_of(folder).name == "completed":
        sys.stdout.write(f"{folder}: completed already\n")
        if (folder / "metrics.json").is_file():
            show(folder, json.loads((folder / "metrics.json").read_text()))
        return 0
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    try:
        run_in(folder, config, _about(folder), sweep=True)
    except ConfigError as error:
        return refuse([f"{folder}: {problem}" for problem in error.problems])
    except Exception as error:  # the others of a sweep go on; the traceback is in the run's log
        known = isinstance(error, (ValueError, OSError))
        words = in_words(error) if known else f"{type(error).__name__}: {error}"
        return fail(f"{folder}: {' '.join(words.split())}")
    return 0


def _about(folder: Path) -> dict[str, Any]:
    """Return what the run's manifest says of the command that it came from, or where it was never begun its job."""
    for name in ("manifest.json", "job.json"):
        if (folder / name).is_file():
            said = json.loads((folder / name).read_text())
            return {key: said[key] for key in ("overrides", "choices") if key in said}
    return {}
