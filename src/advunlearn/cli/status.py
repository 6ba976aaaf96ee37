"""`advunlearn status`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import print_text, refuse
from advunlearn.options import one_line
from advunlearn.report.plain_text import align
from advunlearn.runtime.terminal import table_width

if TYPE_CHECKING:
    from advunlearn.sweeps.status import Status


def main(arguments: list[str]) -> int:
    """`advunlearn status`: the state of each run of a sweep, or of one run; exits with 1 if a run needs attention."""
    parser = parser_of("status", main.__doc__)
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP", help="the folder of a sweep, local or on Slurm, or of a run"
    )
    folder = parser.parse_args(arguments).sweep
    if (folder / "manifest.json").is_file():
        return _one(folder)
    from advunlearn.sweeps.status import statuses
    from advunlearn.sweeps.submission import SHADOWS

    try:
        runs, trouble = statuses(folder)
        shadows, _ = statuses(folder, SHADOWS)
    except (ValueError, OSError) as error:
        return refuse([str(error)])
    if trouble:
        sys.stderr.write(f"{one_line(trouble)}; what follows is from the folders alone\n")
    for part, jobs in ((SHADOWS, shadows), ("runs", runs)):
        if jobs:
            print_text(_table(jobs) + f"\n{part}: {_counts(jobs)}\n")
    stuck = [job for job in runs if job.stuck]
    if stuck and (folder / "sweep.json").is_file():
        print_text(f"again: advunlearn submit --retry {folder}   (logs: {folder / 'logs'})\n")
    elif stuck:
        print_text(f"again: advunlearn resume {folder / str(stuck[0].number)}\n")
    return 1 if stuck else 0


def _one(folder: Path) -> int:
    """Print the state of one run; return 1 if it will not be completed without action."""
    from advunlearn.runs.state import state_of

    state = state_of(folder)
    again = "" if state.name in ("completed", "running") else f" (again: advunlearn resume {folder})"
    print_text(f"{folder}: {state}{again}\n")
    return 1 if again else 0


def _table(jobs: Sequence[Status]) -> str:
    from advunlearn.sweeps.status import varying

    rows = [
        (str(job.number), " ".join(words), _seconds(job), job.state + (f": {job.detail}" if job.detail else ""))
        for job, words in zip(jobs, varying([job.overrides for job in jobs]), strict=True)
    ]
    return "\n".join(align(rows, right=(0, 2), fold=1, width=table_width()))


def _seconds(job: Status) -> str:
    return "" if job.seconds is None else f"{job.seconds:.0f} s"


def _counts(jobs: Sequence[Status]) -> str:
    counts = Counter(job.state for job in jobs)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())
