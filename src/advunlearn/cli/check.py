"""`advunlearn check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import fail, refuse
from advunlearn.runtime.terminal import table_width

if TYPE_CHECKING:
    from advunlearn.config.experiment import Experiment


def main(arguments: list[str]) -> int:
    """`advunlearn check`: find every mistake, print the config, the work to do and the time it takes."""
    parser = parser_of("check", main.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own parts")
    parser.add_argument("-m", "--multirun", action="store_true", help="check all runs of a sweep, and print the first")
    parser.add_argument("overrides", nargs="*", help="overrides, as for `advunlearn run`")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.config.compose import check_sweep, jobs_to_check
    from advunlearn.options import ConfigError

    try:
        if options.multirun:
            job, runs = check_sweep(options.overrides, options.config_dir)
        else:
            job, runs = jobs_to_check(options.overrides, options.config_dir, multirun=False)[0], 1
    except ConfigError as error:
        return refuse(error.problems)
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(job.experiment.config)))
    if job.recipe is not None:
        sys.stdout.write(f"\n{job.recipe}\n")
    sys.stdout.flush()  # the estimate takes a second or two
    return _estimate(job.experiment, runs)


def _estimate(experiment: Experiment, runs: int) -> int:
    """Print what a run would train and how long it would take; return exit status 1 if that is over its budget."""
    from advunlearn.options import ConfigError
    from advunlearn.stages.budget import estimated, refusal, remarks, table
    from advunlearn.stages.estimate import before_a_run

    try:
        estimator = before_a_run(experiment)
        estimate = estimated(estimator)
    except ConfigError as error:
        return refuse(error.problems)
    except ValueError as error:  # what the run would fail with
        return fail(error)
    lines = [table(estimate, table_width()), *remarks(experiment, estimate)]
    if runs > 1:
        lines.append(f"this is the first of {runs} runs; each later one trains only what differs")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    problem = refusal(estimator, estimate)
    return 0 if problem is None else fail(problem)
