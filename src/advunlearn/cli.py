"""The verbs of the command line; imports nothing heavy before it is needed."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from advunlearn.store import Store

USAGE = """\
advunlearn: adversarial machine unlearning as a Stackelberg game, and its audit

  advunlearn run [group=option | key=value]...   pretrain, retrain, unlearn, attack, evaluate, report
  advunlearn run -m seed=1,2,3 ...               a sweep: one run for each combination
  advunlearn check [overrides]...                find every mistake, print the config and what would be computed
  advunlearn list [group]                        what a run can be composed of, one line each
  advunlearn report RUN...                       the table and report of one run, or the means of several
  advunlearn data ls | fetch NAME                datasets, and where they are
  advunlearn store ls | verify | prune           what earlier runs made and later ones reuse

Begin with:      advunlearn run
Then try:        advunlearn run dataset=cifar10 attack=lira
                 advunlearn run unlearner=finetune seed=1
Help of a verb:  advunlearn VERB --help
"""

_HELP_FLAGS = {"--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if a run failed, 2 for a mistake in what was typed."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
        return 0
    if verb == "--version":
        sys.stdout.write(f"advunlearn {__version__}\n")
        return 0
    if verb in ("-sc", "--shell-completion"):  # what the shell calls, without the word `run`
        return run([verb, *rest])
    if verb not in VERBS:
        from difflib import get_close_matches

        near = get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `advunlearn {near[0]}`?" if near else "see advunlearn --help"
        return _refuse([f"no such verb: {verb} ({hint})"])
    sys.path.append(os.getcwd())  # so that a person's own classes, named by _target_, are found
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what is finished is in the store, and the same command goes on from there\n")
        return 130


def run(arguments: list[str]) -> int:
    """`advunlearn run`: check every override, then hand them to Hydra."""
    # Hydra takes overrides on both sides of a flag for mistakes.
    overrides = [word for word in arguments if word.startswith("~") or ("=" in word and not word.startswith("-"))]
    arguments = overrides + [word for word in arguments if word not in overrides]
    if not _HELP_FLAGS.intersection(arguments):
        problems = _check(arguments)
        if problems:
            return _refuse(problems)
    from advunlearn.overrides import expand_aliases

    return _start_hydra(expand_aliases(arguments))


def _check(arguments: list[str]) -> list[str]:
    """Return every mistake in what stands behind `run`."""
    from hydra._internal.utils import get_args_parser

    known, unknown = get_args_parser().parse_known_args(arguments)
    flags = [word for word in unknown if word.startswith("-")]
    if flags:
        return [f"{flag}: no such flag (see advunlearn run --hydra-help)" for flag in flags]
    if known.config_name or known.config_path or known.experimental_rerun:
        return []  # a config of the person's own: Hydra checks what it can, and the run itself the rest
    from advunlearn.options import ConfigError
    from advunlearn.overrides import experiments_from

    try:
        experiments_from([*known.overrides, *unknown], known.config_dir, multirun=known.multirun)
    except ConfigError as error:
        return error.problems
    return []


def _start_hydra(arguments: list[str]) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from advunlearn.folders import config_folder
    from advunlearn.options import ConfigError
    from advunlearn.overrides import register_resolvers, version_base

    register_resolvers()
    signal.signal(signal.SIGTERM, _terminate)
    words = os.environ.get("COMP_LINE", "").split(" ", 2)
    if words[1:2] == ["run"]:  # the shell completes `advunlearn run ...`; Hydra would read the verb as an override
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    sys.argv = [sys.argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back here as they are
    try:
        hydra.main(config_path=str(config_folder()), config_name="config", **version_base())(job)()
    except ConfigError as error:
        return _refuse(error.problems)
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse([str(error).splitlines()[0]])
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def job(config: DictConfig) -> None:
    """Run one composed config in the folder that Hydra made for it, and print the table of its results."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from advunlearn.config import read_experiment
    from advunlearn.report.table import comparison_table
    from advunlearn.train import run_experiment

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    about = {
        "overrides": list(hydra_config.overrides.task),
        "choices": OmegaConf.to_container(hydra_config.runtime.choices),
    }
    result = run_experiment(read_experiment(config), folder, about)
    if not result.metrics:
        sys.stdout.write("the shadow models of this shard are in the store\n")
        return
    sys.stdout.write(f"\n{comparison_table(result.metrics)}\n\nreport: {folder / 'report.html'}\n")


def _terminate(number: int, frame: Any) -> None:
    raise KeyboardInterrupt  # so that the manifest says that the run was interrupted


def check(arguments: list[str]) -> int:
    """`advunlearn check`: find every mistake, print the config and what would be computed."""
    parser = argparse.ArgumentParser("advunlearn check", description=check.__doc__)
    parser.add_argument("--config-dir", help="a folder with your own options")
    parser.add_argument("-m", "--multirun", action="store_true", help="check a sweep; what is printed is its first run")
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    options = parser.parse_intermixed_args(arguments)
    from omegaconf import OmegaConf

    from advunlearn.options import ConfigError
    from advunlearn.overrides import experiments_from
    from advunlearn.plan import describe

    try:
        experiment = experiments_from(options.overrides, options.config_dir, multirun=options.multirun)[0]
    except ConfigError as error:
        return _refuse(error.problems)
    sys.stdout.write(OmegaConf.to_yaml(OmegaConf.create(experiment.config)))
    sys.stdout.write(f"\n{describe(experiment)}\n")
    return 0


def list_options(arguments: list[str]) -> int:
    """`advunlearn list`: every option of every group, or of one, with what its file says of it."""
    from advunlearn.folders import config_folder

    parser = argparse.ArgumentParser("advunlearn list", description=list_options.__doc__)
    groups = sorted({path.parent.name for path in config_folder().glob("*/*.yaml")})
    parser.add_argument("group", nargs="?", choices=groups, help="one of the groups")
    chosen = parser.parse_args(arguments).group
    for group in [chosen] if chosen else groups:
        if not chosen:
            sys.stdout.write(f"{group}\n")
        for path in sorted((config_folder() / group).glob("*.yaml")):
            sys.stdout.write(f"  {path.stem:<22} {_first_comment(path)}\n")
    return 0


def _first_comment(path: Path) -> str:
    comments = (line.lstrip("# ").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


def report(arguments: list[str]) -> int:
    """`advunlearn report`: the table and report of one run, or the means of several."""
    parser = argparse.ArgumentParser("advunlearn report", description=report.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one with runs below it")
    parser.add_argument("--markdown", action="store_true", help="a table for a document")
    options = parser.parse_args(arguments)
    import json

    from advunlearn.report.page import write_report
    from advunlearn.report.summary import find_runs, summarise
    from advunlearn.report.table import comparison_table

    try:
        runs = find_runs(options.runs)
        if len(runs) > 1:
            sys.stdout.write(summarise(runs, style="markdown" if options.markdown else "text") + "\n")
            return 0
        page = write_report(runs[0])
        metrics = json.loads((runs[0] / "metrics.json").read_text())
    except (ValueError, OSError) as error:
        return _refuse([str(error)])
    except KeyError as error:
        return _refuse([f"{runs[0]}: made by another version of advunlearn, without {error}"])
    sys.stdout.write(f"{comparison_table(metrics)}\n\nreport: {page}\n")
    return 0


def data(arguments: list[str]) -> int:
    """`advunlearn data`: datasets, and where they are."""
    parser = argparse.ArgumentParser("advunlearn data", description=data.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ls", help="every dataset and whether it is there")
    fetch_parser = verbs.add_parser("fetch", help="fetch and verify a dataset")
    fetch_parser.add_argument("name")
    options = parser.parse_args(arguments)
    from advunlearn.data.catalogue import DATASETS, status

    if options.verb == "ls":
        for name in DATASETS:
            sys.stdout.write(f"{name:<10}{status(name)}\n")
        return 0
    if options.name not in DATASETS:
        return _refuse([f"no such dataset: {options.name}; choose one of {', '.join(DATASETS)}"])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        DATASETS[options.name]().load()
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{options.name}: {status(options.name)}\n")
    return 0


def store(arguments: list[str]) -> int:
    """`advunlearn store`: what earlier runs made and later ones reuse."""
    parser = argparse.ArgumentParser("advunlearn store", description=store.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ls", help="every artefact: name, kind, age, size")
    verbs.add_parser("verify", help="read everything; exit status 1 if something is damaged")
    prune = verbs.add_parser("prune", help="delete what is older than some days")
    prune.add_argument("--days", type=float, default=30, help="keep what is younger (default 30; 0 deletes everything)")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    options = parser.parse_args(arguments)
    from advunlearn.store import Store

    kept = Store()
    if options.verb == "verify":
        return _verify(kept)
    now, total = time.time(), 0
    for entry in kept.entries():
        days = (now - entry.made) / 86400
        if options.verb == "prune" and days < options.days:
            continue
        if options.verb == "prune" and not options.dry_run:
            kept.remove(entry.digest)
        sys.stdout.write(f"{entry.digest[:16]}  {entry.kind:<10}{days:>7.1f} days {entry.size / 1e6:>9.2f} MB\n")
        total += entry.size
    done = {"ls": "stored", "prune": "would be deleted" if options.verb == "prune" and options.dry_run else "deleted"}
    which = f", made more than {options.days:g} days ago" if options.verb == "prune" else ""
    sys.stdout.write(f"{total / 1e6:.2f} MB {done[options.verb]}{which} in {kept.root}\n")
    return 0


def _verify(kept: Store) -> int:
    from advunlearn.store import Damaged

    read, damaged = 0, 0
    for entry in kept.entries():
        try:
            kept.read(entry.digest)
            read += 1
        except Damaged as damage:
            damaged += 1
            sys.stdout.write(f"{entry.digest[:16]}  {damage}\n")
    sys.stdout.write(f"{read} whole, {damaged} damaged in {kept.root}\n")
    return 1 if damaged else 0


def _refuse(problems: Sequence[str]) -> int:
    """Say each mistake in one line and return exit status 2."""
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    return 2


VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": run,
    "check": check,
    "list": list_options,
    "report": report,
    "data": data,
    "store": store,
}
