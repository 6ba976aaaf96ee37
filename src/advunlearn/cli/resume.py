"""`advunlearn resume`."""

from __future__ import annotations

from pathlib import Path

from advunlearn.cli.one_run import resume
from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import refuse


def main(arguments: list[str]) -> int:
    """`advunlearn resume`: resume runs that were killed, were interrupted, failed, or never started."""
    parser = parser_of("resume", main.__doc__)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="the folder of a run, or of a sweep: all its unfinished runs",
    )
    options = parser.parse_args(arguments)
    from advunlearn.report.summary.at_end import print_sweep_report
    from advunlearn.runs.state import runs_below
    from advunlearn.runtime.logs import log_to_terminal
    from advunlearn.runtime.signals import heed_signals

    log_to_terminal()
    problems = [f"{path}: no run at or below it" for path in options.runs if not runs_below(path)]
    if problems:
        return refuse(problems)
    statuses = []
    with heed_signals():
        for path in options.runs:
            folders = runs_below(path)
            several = folders != [path]
            statuses += [resume(folder, quiet=several) for folder in folders]
            if several:
                print_sweep_report(path)
    return max(statuses)
