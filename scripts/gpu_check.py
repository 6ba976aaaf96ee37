"""Find out what only a GPU can tell: is the code right there, and how fast is it?

    python scripts/gpu_check.py --part check --budget 300 --out gpu/check
    python scripts/gpu_check.py --part cifar10 --budget 480 --out gpu/cifar10 --data parts
    python scripts/gpu_table.py gpu/*/results.jsonl     # the results as Markdown tables
    python scripts/gpu_check.py --device cpu --tiny     # every step where there is no GPU, in seconds

Time on a GPU is often short, so the steps come in order of importance, each has a time limit, and `--budget` limits
them all. Each result is one line of JSON in OUT/results.jsonl, on the disk before the next step begins:

    {"step": name, "at": seconds from the start, "seconds": of the step, "ok": true, false or null, "found": {...}}

`ok` is null for a step that was skipped, with the reason under `skipped`, and for what a step that goes on has found so
far, with `"partial": true`. A failed step has an `error` and never stops the ones after it: they run in another process
than the one that keeps the time, and if that process hangs or dies, a new one goes on with the next step. The exit
status is 0, or 1 if a check failed, or 2 if the arguments are wrong or there is no such device.

What the machine needs: this checkout, and `PYTHONPATH=$PWD/src`; Python 3.10 or later with torch for CUDA, torchvision,
numpy, scikit-learn, tqdm and matplotlib; the wheels of hydra-core, omegaconf, antlr4-python3-runtime, pyyaml and
safetensors where these are missing (`pip download` them elsewhere); pytest for the step `marked_tests`; and for the
second part CIFAR-10, in the cache or as the parts of `advunlearn data pack cifar10 FOLDER --part-size 50MB`, given as
`--data FOLDER`. On one H100 the first part should take about 5 minutes and the second 6 to 8; a step that was not begun
says so in its line, and `--only STEP...` runs it later.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

RESTART = 75  # exit status of a worker whose device failed: the next step needs a new process
USAGE = 2


@dataclass(frozen=True)
class Step:
    """One step; the function of its name in the package `gpu` does it.

    Attributes:
        part: of the check, `check` or `cifar10`, or `both`.
        title: of its table.
        limit: seconds after which it is cut off.
        least: seconds that must be left to begin it.
    """

    name: str
    part: str
    title: str
    limit: float
    least: float

    @property
    def command(self) -> str:
        """Return the command that runs this step alone."""
        part = "cifar10" if self.part == "cifar10" else "check"
        return f"python scripts/gpu_check.py --part {part} --only {self.name}"


STEPS = (
    Step("environment", "both", "Versions, and the most that the card copies and multiplies", 40, 3),
    Step("auditors_agree", "check", "Each auditor, CPU and device: largest difference", 40, 5),
    Step("epochs_agree", "check", "Weights after one epoch, CPU and device: largest difference", 60, 8),
    Step("stacks_agree", "check", "Weights of networks fitted as a stack and one by one: largest difference", 40, 5),
    Step("resumes", "check", "A training that is interrupted and resumed: largest difference", 40, 5),
    Step("waits", "check", "Times that the CPU waits for the device", 30, 5),
    Step("resnet_epoch", "check", "ResNet-18, seconds for an epoch of 50,000 images of CIFAR-10's size", 90, 15),
    Step("default_run", "check", "The default run on the CPU and on the device", 90, 15),
    Step("marked_tests", "check", "The tests marked `gpu`", 120, 20),
    Step("audit_steps", "check", "An audit step inside the game, by auditor", 60, 10),
    Step("auditor_speed", "check", "An auditor alone, 500 + 500 examples, by where it computes (ms)", 40, 10),
    Step("stack_speed", "check", "Small networks fitted as a stack and one by one", 40, 10),
    Step(
        "graph_step",
        "check",
        "A training step of ResNet-18 launched operation by operation and as a CUDA graph",
        60,
        15,
    ),
    Step("compiled_epoch", "check", "The same epoch of ResNet-18 with compile=true", 150, 60),
    Step("cifar10_base", "cifar10", "CIFAR-10, ResNet-18: original and retrained model", 150, 30),
    Step("cifar10_svm", "cifar10", "CIFAR-10, ResNet-18: the game against svm", 240, 30),
    Step("cifar10_twin", "cifar10", "CIFAR-10, ResNet-18: the same without the game (alpha 0)", 90, 20),
    Step(
        "cifar10_lira", "cifar10", "CIFAR-10, ResNet-18: the game against svm, and LiRA with 8 shadow models", 200, 40
    ),
    Step("cifar10_twin_lira", "cifar10", "CIFAR-10, ResNet-18: alpha 0, and LiRA with the same shadow models", 60, 15),
    Step("cifar10_likelihood_ratio", "cifar10", "CIFAR-10, ResNet-18: the game against likelihood_ratio", 240, 60),
)


class Late(Exception):
    """A step took longer than it may."""


class Results:
    """Add lines to a file of results, each on the disk at once, with the seconds since `started`."""

    def __init__(self, path: Path, started: float) -> None:
        self.path, self.started = path, started

    def add(self, step: str, ok: bool | None, **more: Any) -> None:
        """Write one line, and print it."""
        line = json.dumps({"step": step, "at": round(time.time() - self.started, 1), "ok": ok, **more}, default=str)
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def note(self, step: Step, found: dict[str, Any]) -> None:
        """Write what a step that goes on has found so far."""
        self.add(step.name, None, partial=True, found=found)

    def skip(self, step: Step, left: float) -> None:
        """Write that too little time is left for a step."""
        self.add(step.name, None, skipped=f"{max(left, 0):.0f} s are left, and it needs {step.least:.0f} s at least")


def read_lines(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a file of results from the byte `start` on, and how many are damaged and were left out."""
    lines, damaged = [], 0
    for text in path.read_bytes()[start:].splitlines():
        try:
            line = json.loads(text)
            line["step"], line["ok"]
            lines.append(line)
        except (ValueError, TypeError, KeyError):
            damaged += 1
    return lines, damaged


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `Late` inside after so many seconds; end the process a little later if it hangs where nothing is raised."""

    def late(*_: object) -> None:
        raise Late(f"over its limit of {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + min(seconds, 10), exit=True)  # a thread of C, which needs no lock
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def carry_out(step: Step, function: Callable[[], dict[str, Any]], limit: float, results: Results) -> None:
    """Do one step within a limit in seconds, and write its line, whatever happens."""
    start = time.monotonic()

    def add(ok: bool | None, **more: Any) -> None:
        results.add(step.name, ok, seconds=round(time.monotonic() - start, 2), **more)

    try:
        with within(limit):
            found = function()
    except Exception as error:
        add(False, error=f"{type(error).__name__}: {error}"[:1000], trace=traceback.format_exc()[-2000:])
    else:
        if "skipped" in found:
            add(None, skipped=found["skipped"])
        else:
            add(bool(found.pop("ok", True)), found=found)


def work(options: argparse.Namespace, steps: Sequence[Step], results: Results) -> int:
    """Do the steps one after another in this process, and return its exit status."""
    import gpu

    try:
        bench = gpu.Bench.make(options.device, options.tiny, options.out, options.data)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    for step in steps:
        left = results.started + options.budget - time.time()
        if left < (1 if options.tiny else step.least):
            results.skip(step, left)
            continue
        limit = min(step.limit, left, options.limit)
        bench.note = partial(results.note, step)
        carry_out(step, partial(getattr(gpu, step.name), bench), limit, results)
        if bench.is_broken():
            return RESTART
    return 0


def supervise(options: argparse.Namespace, steps: Sequence[Step], results: Results) -> int:
    """Let worker processes do the steps, and return the exit status: see the top of this file."""
    first = results.path.stat().st_size if results.path.exists() else 0
    deadline = results.started + options.budget

    def lines() -> list[dict[str, Any]]:
        found = read_lines(results.path, first)[0] if results.path.exists() else []
        return [line for line in found if not line.get("partial")]

    def waiting() -> list[Step]:
        done = {line["step"] for line in lines()}
        return [step for step in steps if step.name not in done]

    while before := waiting():
        if time.time() >= deadline:
            for step in before:
                results.skip(step, 0)
            break
        names = [step.name for step in before]
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(results.started), "--only", *names]
        status = ended(subprocess.Popen(command), deadline + 5)
        if status == USAGE:
            return USAGE
        after = waiting()
        if after and (status not in (0, RESTART) or after == before):
            reason = f"its process ended with status {status}" if status is not None else "the budget is over"
            results.add(after[0].name, False, error=reason)
    return int(any(line["ok"] is False for line in lines()))


def ended(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    """Return the exit status of a process, or None if it had to be killed at the deadline."""
    try:
        return process.wait(max(deadline - time.time(), 0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("check", "cifar10", "all"), default="all")
    parser.add_argument("--only", nargs="+", metavar="STEP", choices=[step.name for step in STEPS])
    parser.add_argument("--budget", type=float, default=300, metavar="SECONDS", help="for all steps (300)")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS", help="for any one step")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the results (gpu_check)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="packed parts of CIFAR-10")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps: a test of this script")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.budget > 0 or not options.limit > 0:
        parser.error("--budget and --limit must be above 0")
    return options


def main() -> int:
    """Run the steps that were asked for."""
    options = parse()
    steps = [
        step
        for step in STEPS
        if (step.name in options.only if options.only else options.part in (step.part, "all") or step.part == "both")
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(options.out / "results.jsonl", options.worker or time.time())
    return work(options, steps, results) if options.worker else supervise(options, steps, results)


if __name__ == "__main__":
    sys.exit(main())
