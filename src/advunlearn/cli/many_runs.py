"""Several runs, one after another; a failed one does not stop the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advunlearn.cli.one_run import resume
from advunlearn.cli.parser import parser_of
from advunlearn.runtime.terminal import remark

if TYPE_CHECKING:
    from advunlearn.config.compose import Job


def sweep_parser(verb: str, about: str | None, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of a verb that takes the overrides of a sweep, to which its own flags are added."""
    parser = parser_of(verb, about, epilog)
    parser.add_argument("overrides", nargs="*", help="as for `advunlearn run -m`; unlearner=a,b names the methods")
    parser.add_argument("--config-dir", help="a folder with your own parts")
    return parser


def run_all(folder: Path, jobs: Sequence[Job], *, recipes: bool = False) -> int:
    """Run a frozen sweep, print one line for each run and then its report, and return the exit status.

    Args:
        folder: of the sweep.
        jobs: its runs.
        recipes: print each recipe that was chosen, once.
    """
    from advunlearn.options import one_line
    from advunlearn.report.summary.at_end import print_sweep_report
    from advunlearn.runtime.logs import log_to_terminal

    log_to_terminal(warnings_only=True)
    statuses = []
    try:
        last = None
        for number, job in enumerate(jobs):
            remark(f"[{number + 1}/{len(jobs)}] {one_line(' '.join(job.overrides))}\n")
            if job.recipe not in (None, last) and recipes:
                remark(f"{job.recipe}\n")
            last = job.recipe
            statuses.append(resume(folder / str(number), quiet=True))
    except KeyboardInterrupt:
        sys.stderr.write(f"{len(statuses)} of {len(jobs)} runs are done; to resume: advunlearn resume {folder}\n")
        raise
    print_sweep_report(folder)
    return max(statuses)
