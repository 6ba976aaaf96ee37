"""`advunlearn tune`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from advunlearn.cli.many_runs import sweep_parser
from advunlearn.cli.problems import print_text, refuse

if TYPE_CHECKING:
    from advunlearn.config.compose import Job
    from advunlearn.sweeps.tuning import Study

EPILOG = """\
A trial is judged by accuracy minus attack on the selection set, on average over the seeds; the test set is not used.
The first trial is the present setting. A method declares which of its options are searched, and in which range. A
repeated command takes the trials that are done from the store.

For each method, DIR/recipe/RECIPE/unlearner/METHOD.yaml is written, which `--config-dir DIR` uses, and
DIR/tune/RECIPE/METHOD.csv, the table of the trials.

  advunlearn tune unlearner=salun,scrub
  advunlearn tune --trials 50 --limit 0.5 experiment=cifar10_cpu unlearner=sg
  advunlearn compare --config-dir tuned unlearner=salun,scrub,sg
"""


def main(arguments: list[str]) -> int:
    """`advunlearn tune`: search for the options of methods, with the same number of trials for each."""
    parser = sweep_parser("tune", main.__doc__, EPILOG)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="settings to try per method (default 20)")
    parser.add_argument(
        "--limit", type=float, default=1.0, metavar="X", help="time over that of retraining of the choice (default 1)"
    )
    parser.add_argument("--out", type=Path, default=Path("tuned"), metavar="DIR", help="where to write (default tuned)")
    options = parser.parse_intermixed_args(arguments)
    if options.trials < 1 or not options.limit > 0:
        return refuse([f"--trials must be at least 1 and --limit above 0, got {options.trials} and {options.limit:g}"])
    from advunlearn.config.compose import is_installed
    from advunlearn.runtime.logs import log_to_terminal
    from advunlearn.runtime.signals import heed_signals
    from advunlearn.sweeps.comparison import methods_of

    if not is_installed("optuna"):
        return refuse(["tune needs Optuna (pip install 'advunlearn[tune]')"])
    log_to_terminal(warnings_only=True)
    methods = methods_of(options.overrides, options.config_dir)
    with heed_signals():
        return max(_tune(name, jobs, options) for name, jobs in methods.items())


def _tune(method: str, jobs: list[Job], options: argparse.Namespace) -> int:
    """Tune one method, write its files, and print a line; a method that cannot work does not stop the others."""
    from advunlearn.config.recipes import recipe_values
    from advunlearn.config.search_path import search_path
    from advunlearn.options import UserError
    from advunlearn.storage.files import atomic_write
    from advunlearn.sweeps.tuning import recipe_file, search_space, studied, trials_table

    if not search_space(jobs[0].experiment.unlearner):
        print_text(f"{method}: no option to search\n")
        return 0
    try:
        found = studied(jobs, options.trials, options.limit)
    except UserError as error:
        sys.stderr.write(f"{method}: left out: {error}\n")
        return 1
    recipe = str(jobs[0].choices["recipe"])
    present = recipe_values(recipe, method, search_path(options.config_dir, options.overrides))
    texts = {
        options.out / "recipe" / recipe / "unlearner" / f"{method}.yaml": recipe_file(
            method, found, _seeds(jobs), present
        ),
        options.out / "tune" / recipe / f"{method}.csv": trials_table(found),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    print_text(f"{method}: {_summary(found)}\n")
    return 0


def _seeds(jobs: list[Job]) -> list[int]:
    return [job.experiment.settings.seed for job in jobs]


def _summary(found: Study) -> str:
    """Return the choice and its utility in a line."""
    best, first = found.best, found.trials[0].judged
    if best is None or best.judged is None:
        return f"every trial failed, the last one as follows: {found.trials[-1].problem}"
    words = " ".join(f"{name}={value}" for name, value in best.options.items())
    before = f"{first.utility:.3f}" if first else "failed"
    late = "; slower than the limit, as every trial" if best.judged.time > found.limit else ""
    return (
        f"utility {best.judged.utility:.3f} (before {before}, retrained {found.retrained.utility:.3f}), "
        f"{best.judged.time:.2f} times retraining{late}: {words}"
    )
