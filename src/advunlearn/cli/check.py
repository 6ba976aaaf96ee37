"""`advunlearn check`."""

from __future__ import annotations

import argparse
import sys

from advunlearn.cli.problems import refuse


def main(arguments: list[str]) -> int:
    """`advunlearn check`: find every mistake, print the config and what would be computed."""
    parser = argparse.ArgumentParser("advunlearn check", description=main.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own options")
    parser.add_argument("-m", "--multirun", action="store_true", help="check a sweep; what is printed is its first run")
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.options import ConfigError
    from advunlearn.overrides import jobs_to_check
    from advunlearn.plan import describe

    try:
        job = jobs_to_check(options.overrides, options.config_dir, multirun=options.multirun)[0]
    except ConfigError as error:
        return refuse(error.problems)
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(job.experiment.config)))
    if job.recipe is not None:
        sys.stdout.write(f"\n{job.recipe}\n")
    sys.stdout.write(f"\n{describe(job.experiment)}\n")
    return 0
