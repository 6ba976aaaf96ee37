"""`advunlearn unlearn`."""

from __future__ import annotations

from advunlearn.cli import run
from advunlearn.cli.problems import refuse

MISSING = (
    "unlearn needs a trained model: original.path=model.pt, or original.run=RUN for the next request "
    "(advunlearn run trains one)"
)
_HELP = {"--help", "-h", "--hydra-help"}


def main(arguments: list[str]) -> int:
    """`advunlearn unlearn`: `advunlearn run` for a model that is trained already, which must be given."""
    if _HELP.intersection(arguments):
        return run.main(arguments)
    from advunlearn.config.compose import jobs_to_check, split_arguments
    from advunlearn.options import ConfigError

    known, unknown = split_arguments(arguments)
    try:
        jobs = jobs_to_check([*known.overrides, *unknown], known.config_dir, multirun=known.multirun)
    except ConfigError as error:
        return refuse(error.problems)
    if any(job.experiment.weights_file is None for job in jobs):
        return refuse([MISSING])
    return run.main(arguments)
