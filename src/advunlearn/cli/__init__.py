"""The command line: each verb is a file of this folder with its own `main`.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from advunlearn import __version__
from advunlearn.cli.problems import fail, refuse
from advunlearn.cli.streams import tolerant_streams
from advunlearn.options import UserError, located, nearest
from advunlearn.runtime.terminal import FLAGS, asked

USAGE = """\
advunlearn: adversarial machine unlearning as a Stackelberg game, and its audit

Usage: advunlearn VERB [flags] [group=option | key=value]...

  run         pretrain, retrain, unlearn, attack, evaluate, report
  run -m      a sweep, seed=1,2,3 ...: one run for each combination
  unlearn     the same for a trained model: original.path=model.pt ...
  audit       attacks on a trained model, without unlearning
  compare     several methods on the same requests, each against retraining
  tune        search for the options of methods, on the selection set
  submit      a sweep, sent to Slurm as one job array; returns at once
  status      the state of each run of a sweep
  resume      resume a run, or a sweep, that ended before it was completed
  check       find every mistake, print the config and the work to do
  list        the parts of a run, one line each
  describe    a part's options: meaning, type, range and default
  report      the table and page of a run, or the means of several over seeds
  data        ls, fetch, pack, unpack: datasets, and where they are
  store       ls, verify, prune: the results that later runs reuse
  completion  tab completion: eval "$(advunlearn completion bash)"

Begin with:      advunlearn run
Then try:        advunlearn run dataset=cifar10 attack=lira
                 advunlearn run unlearner=finetune seed=1
Help of a verb:  advunlearn VERB --help
Of every verb:   --wide    whole tables, whatever the width of the terminal
                 --quiet   only results, warnings and errors
"""

WORKING = (
    "run",
    "unlearn",
    "audit",
    "compare",
    "tune",
    "resume",
    "submit",
)  # their results are files, not their output
VERBS = (*WORKING, "status", "check", "list", "describe", "report", "data", "store", "completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if a run failed, 2 for a mistake in what was typed.

    It is also 1 if standard output could not be written and the result of the verb is its output.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    asked.wide, asked.quiet = (flag in typed for flag in FLAGS)
    asked.command = shlex.join(["advunlearn", *typed])
    arguments = [word for word in typed if word not in FLAGS]
    with tolerant_streams() as output:
        try:
            status = _dispatch(arguments)
        finally:
            asked.command = ""  # what Python does next was not typed
        output.flush()
        if output.error is not None:
            failed = fail(f"standard output: {output.error}")
            status = status if arguments[:1] and arguments[0] in WORKING else max(status, failed)
    return status


def _dispatch(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
        return 0
    if verb in ("--version", "-V"):
        sys.stdout.write(f"advunlearn {__version__}\n")
        return 0
    if verb in ("-sc", "--shell-completion"):  # what the shell calls, without the word `run`
        verb, rest = "run", [verb, *rest]
    if verb not in VERBS:
        hint = nearest(verb, VERBS, "`advunlearn ", "`") or " (see advunlearn --help)"
        return refuse([f"no such verb: {verb}{hint}"])
    try:
        sys.path.append(os.getcwd())  # so that the user's own classes, named by _target_, are found
        module = "list_" if verb == "list" else verb  # here, `list` is the built-in one
        return int(importlib.import_module(f"advunlearn.cli.{module}").main(rest))
    except UserError as error:
        return refuse(error.problems)
    except OSError as error:  # a full disk, a folder of another user: a run's log has the traceback
        return fail(error)
    except Exception as error:  # a bug, of ours or in a part of the user: a line tells where
        if os.environ.get("ADVUNLEARN_TRACEBACK"):
            raise
        return fail(f"{located(error)}; ADVUNLEARN_TRACEBACK=1 shows the whole traceback")
    except KeyboardInterrupt as interrupted:
        sys.stderr.write("interrupted; finished results are in the store: repeat the command to resume\n")
        return 128 + getattr(interrupted, "number", signal.SIGINT)
