"""`advunlearn check`."""

from __future__ import annotations

import argparse
import sys

from advunlearn.cli.problems import fail, refuse


def main(arguments: list[str]) -> int:
    """`advunlearn check`: find every mistake, print the config and how long the run would take."""
    parser = argparse.ArgumentParser("advunlearn check", description=main.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own options")
    parser.add_argument("-m", "--multirun", action="store_true", help="check a sweep; what is printed is its first run")
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.options import ConfigError
    from advunlearn.overrides import experiments_from
    from advunlearn.stages.estimate import before_a_run, over_budget, remarks, table

    try:
        experiment = experiments_from(options.overrides, options.config_dir, multirun=options.multirun)[0]
    except ConfigError as error:
        return refuse(error.problems)
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(experiment.config)))
    sys.stdout.flush()
    try:
        estimator = before_a_run(experiment)
        estimate = estimator.estimate()
    except ValueError as error:
        return fail(error)
    lines = [table(estimate), *remarks(experiment, estimate)]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    problem = over_budget(estimator, estimate)
    return 0 if problem is None else fail(problem)
