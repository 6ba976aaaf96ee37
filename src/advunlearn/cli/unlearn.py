"""`advunlearn unlearn`."""

from __future__ import annotations

from advunlearn.cli import run
from advunlearn.cli.problems import refuse

_HELP = {"--help", "-h", "--hydra-help"}


def main(arguments: list[str]) -> int:
    """`advunlearn unlearn`: `advunlearn run` for a model that is trained already, which must be given."""
    given = any(word.lstrip("+").startswith(("original.", "experiment=")) for word in arguments)
    if not given and not _HELP.intersection(arguments):
        return refuse(
            [
                "unlearn needs a trained model: original.path=model.pt, or original.run=RUN for the next request "
                "(advunlearn run trains one)"
            ]
        )
    return run.main(arguments)
