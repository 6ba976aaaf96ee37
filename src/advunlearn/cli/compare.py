"""`advunlearn compare`."""

from __future__ import annotations

import sys
from pathlib import Path

from advunlearn.cli.many_runs import run_all, sweep_parser
from advunlearn.runtime.terminal import remark

EPILOG = """\
unlearner=a,b names the methods, with options as in a sweep; without it, all methods are compared, and the game with
every auditor. seed=1,2,3 and attack=[lira,rmia,weight_change] are the defaults. An option is set for those methods
that have it.
With seeds.training=1,2,3 seeds.unlearning=1,2 each trained model is unlearned twice, by default with seed=1.
The table has no unlearning, retraining again (the floor) and a method that forgets too much as controls.

  advunlearn compare
  advunlearn compare unlearner=sg,salun auditor=svm,calibrated seed=1,2,3,4,5
  advunlearn compare experiment=cifar10_cpu
  advunlearn report outputs/sweeps/ID --format latex
"""


def main(arguments: list[str]) -> int:
    """`advunlearn compare`: run several methods on the same requests, and print how far each is from retraining."""
    parser = sweep_parser("compare", main.__doc__, EPILOG)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the runs (default outputs/sweeps/ID)")
    options = parser.parse_intermixed_args(arguments)
    from advunlearn.runtime.signals import heed_signals
    from advunlearn.sweeps.comparison import comparison_of
    from advunlearn.sweeps.freeze import freeze, new_folder

    comparison = comparison_of(options.overrides, options.config_dir)
    folder = options.out or new_folder()
    jobs = [job for _, job in comparison.jobs]
    freeze(folder, jobs, [name for name, _ in comparison.jobs])
    for problem in comparison.left_out:
        sys.stderr.write(f"left out: {problem}\n")
    remark(f"{len(set(name for name, _ in comparison.jobs))} methods, {len(jobs)} runs in {folder}\n")
    with heed_signals():
        return run_all(folder, jobs)
