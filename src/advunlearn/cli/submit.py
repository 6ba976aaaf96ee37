"""`advunlearn submit`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import fail, refuse
from advunlearn.sweeps.slurm import Flags, SlurmError

if TYPE_CHECKING:
    from advunlearn.sweeps.submission import Numbers, Sweep

EXAMPLES = """\
Examples:

  advunlearn submit --time 1:00:00 --gpus 1 seed=1,2,3 unlearner=sg,finetune
  advunlearn submit --parallel 8 --setup 'module load cuda' \\
      --sbatch constraint=a100 experiment=game_twin seed=1,2,3
  advunlearn submit --shadow-shards 8 attack=lira attack.shadows=256 seed=1,2
  advunlearn submit --retry outputs/sweeps/SWEEP --mem 16G
"""
TEXTS = {
    "partition": "Slurm's partition",
    "account": "account to charge",
    "qos": "quality of service",
    "time": "time limit of a run, as Slurm writes it (30, 2:00:00, 1-0); a longer run is requeued and resumes",
    "mem": "memory of a run (8G)",
    "name": "name in the queue (default advunlearn)",
}
NUMBERS = {
    "cpus": (1, "CPU cores of a run"),
    "gpus": (1, "GPUs of a run"),
    "parallel": (1, "runs at a time (default: as many as the cluster allows)"),
    "signal-seconds": (
        1,
        "seconds before the time limit at which a run is told to stop (default 120; well below --time)",
    ),
    "requeues": (0, "how often a killed run, for example out of memory, is requeued (default 3)"),
    "shadow-shards": (1, "train shadow models first, in N jobs per set; the runs wait for them"),
}
LISTS = {
    "setup": ("LINE", "a line of shell before the program starts; can be repeated"),
    "sbatch": ("OPTION", "any other option of sbatch, as constraint=a100; can be repeated"),
}


def main(arguments: list[str]) -> int:
    """`advunlearn submit`: check every run of a sweep now, send them to Slurm as one array, and return."""
    options = _parser().parse_intermixed_args(arguments)
    problems = _problems(options)
    if problems:
        return refuse(problems)
    from advunlearn.options import ConfigError

    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(Flags)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.sbatch:
        given["sbatch"] = [option.lstrip("-") for option in options.sbatch]
    try:
        if options.retry:
            return _retry(options.retry, given, dry_run=options.dry_run)
        return _submit(options, Flags(**given))
    except ConfigError as error:
        return refuse(error.problems)
    except SlurmError as error:
        return fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "submit",
        main.__doc__,
        EXAMPLES,
        usage="%(prog)s [flags] [--] [group=option | key=value,value...]...\n       %(prog)s --retry SWEEP [flags]",
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", help="overrides, as for `advunlearn run -m`")
    parser.add_argument("--config-dir", help="a folder with your own parts")
    for name, words in TEXTS.items():
        parser.add_argument(f"--{name}", metavar="X", help=words)
    for name, (_, words) in NUMBERS.items():
        parser.add_argument(f"--{name}", metavar="N", type=int, help=words)
    for name, (metavar, words) in LISTS.items():
        parser.add_argument(f"--{name}", metavar=metavar, action="append", help=words)
    parser.add_argument(
        "--requeue-cancelled",
        action="store_true",
        default=None,
        help="also requeue a run ended by scancel: Slurm does not distinguish scancel --signal=KILL JOB",
    )
    parser.add_argument("--dir", type=Path, help="the sweep's folder (default: a new one under outputs/sweeps)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and write nothing")
    parser.add_argument(
        "--retry", metavar="SWEEP", type=Path, help="send again the runs that are neither completed nor in the queue"
    )
    return parser


def _problems(options: argparse.Namespace) -> list[str]:
    """Return what is wrong with the flags."""
    values = {name.replace("_", "-"): value for name, value in vars(options).items() if value is not None}
    found = [
        f"--{name} must be at least {least}, got {values[name]}"
        for name, (least, _) in NUMBERS.items()
        if values.get(name, least) < least
    ]
    found += [
        f"--{name} must be one word, got {values[name]!r}"
        for name in TEXTS
        if name in values and len(values[name].split()) != 1
    ]
    if options.retry and not (options.retry / "sweep.json").is_file():
        found.append(f"--retry {options.retry}: not the folder of a submitted sweep")
    if options.retry and (options.overrides or options.dir or options.shadow_shards or options.config_dir):
        found.append("--retry sends what the sweep's folder holds: no overrides, --config-dir, --dir, --shadow-shards")
    if options.dir and options.dir.exists():
        found.append(f"--dir {options.dir} is there already; choose another folder")
    return found


def _submit(options: argparse.Namespace, flags: Flags) -> int:
    """Check, freeze and send a new sweep."""
    from advunlearn.config.compose import jobs_from
    from advunlearn.sweeps.freeze import freeze, new_folder, shadow_shards
    from advunlearn.sweeps.submission import RUNS, SHADOWS, Sweep

    jobs = jobs_from(options.overrides, options.config_dir)
    shards = shadow_shards(jobs, options.shadow_shards) if options.shadow_shards else []
    if options.shadow_shards and not shards:
        return refuse(["--shadow-shards: no run of this sweep has shadow models (try attack=lira)"])
    sweep = Sweep.new(options.dir or new_folder(), flags, len(jobs), len(shards))
    if not options.dry_run:
        freeze(sweep.folder, jobs)
        freeze(sweep.folder / SHADOWS, shards)
        sweep.write()
    numbers = {SHADOWS: list(range(len(shards))), RUNS: list(range(len(jobs)))}
    status = _send(sweep, numbers, dry_run=options.dry_run)
    if not options.dry_run:
        sys.stdout.writelines(f"{recipe}\n" for recipe in dict.fromkeys(str(job.recipe) for job in jobs if job.recipe))
    return status


def _retry(folder: Path, given: dict[str, Any], *, dry_run: bool) -> int:
    """Send again what of a sweep is neither completed nor in the queue, with what else is asked for now."""
    from advunlearn.sweeps.submission import RUNS, SHADOWS, Sweep

    sweep = Sweep.read(folder)
    sweep.flags = dataclasses.replace(sweep.flags, **given)
    numbers = {part: sweep.idle(part) for part in (SHADOWS, RUNS)}
    if not numbers[RUNS]:
        sys.stdout.write(f"nothing to send: every run is completed or in the queue (advunlearn status {folder})\n")
        return 0
    return _send(sweep, numbers, dry_run=dry_run)


def _send(sweep: Sweep, numbers: Numbers, *, dry_run: bool) -> int:
    from advunlearn.sweeps.submission import RUNS

    if dry_run:
        for _, text in sweep.scripts(numbers):
            sys.stdout.write(text)
        return 0
    try:
        for part, job in sweep.send(numbers):
            count = len(numbers[part])
            what = f"run{'s' * (count > 1)}" if part == RUNS else "jobs that train shadow models"
            sys.stdout.write(f"job {job}: {count} {what}\n")
    except SlurmError as error:
        again = f"its folder is kept: advunlearn submit --retry {sweep.folder}"
        raise SlurmError(f"{error}; {again}") from error
    sys.stdout.write(
        f"sweep:  {sweep.folder}\nwatch:  advunlearn status {sweep.folder}\nreport: advunlearn report {sweep.folder}\n"
    )
    return 0
