"""Several runs in one store, killed with -9 at random moments, while the store is verified and pruned.

    python scripts/soak.py                                   # 200 kills, or 10 minutes
    python scripts/soak.py --minutes 1 --runs 4 attack=rmia

First, each seed is run once in a separate store, without interruption. Then processes of the kinds in the table below
are started at random, until there were enough kills; at the end each seed is run once more, and the store is verified.
A killed run is resumed in its folder, or repeated in another one. The exit status is 0 if every 'wrong' is 0. Counted
as wrong are:

- exit codes other than 0 (a killed run has none),
- metrics that differ from those of the uninterrupted run, except times,
- artefacts whose tensors or arrays differ from those of the uninterrupted run,
- artefacts deleted more often than prunes listed them,
- artefacts that `store verify` or a run found damaged.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from advunlearn.cli import main as advunlearn_main

OVERRIDES = ["attack=[threshold,lira]", "attack.shadows=8", "optimizer.epochs=30", "unlearner.epochs=6"]
ALWAYS = ["threads=1", "checkpoint_seconds=0.05"]
TIMES = ("seconds", "unlearning_over_retraining", "references_over_retraining")
OF_THE_PROCESS = ("peak_memory",)  # of `unlearning`
STAGES = ["data", "pretrain", "retrain", "unlearn", "attack", "weights", "selection", "report", "end"]
CARE = {  # what is done next to the runs
    "verify": ["verify"],
    "ls": ["ls"],
    "prune --days": ["prune", "--days", "0.0001"],
    "prune --max-size": ["prune", "--max-size", "0.2MB", "--days", "0.0003"],
}


@dataclass
class Job:
    """One process: a run, or care for the store."""

    kind: str
    process: BaseProcess
    output: Path
    seed: int = 0
    folder: Path = Path()
    delay: float = float("inf")  # seconds to its kill from its manifest on; if negative, from its start on
    dies: float = float("inf")  # the moment of its kill
    killed: bool = False


def main() -> None:
    """Print the table; exit with status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as after `advunlearn run`")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=4, help="at the same time")
    parser.add_argument("--seeds", type=int, default=4, help="of the runs: 0, 1, ...")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process that was forked from one with many threads cannot train
    with tempfile.TemporaryDirectory() as name:
        soak = Soak(Path(name), [*(options.overrides or OVERRIDES), *ALWAYS], options)
        soak.prepare()
        soak.work()
        wrong = show(soak)
    sys.exit(wrong > 0)


class Soak:
    """Processes in one store, and their results."""

    def __init__(self, place: Path, overrides: list[str], options: argparse.Namespace) -> None:
        self.place, self.overrides, self.options = place, overrides, options
        self.store = place / "cache" / "store"
        self.rng = random.Random(options.seed)
        self.jobs: list[Job] = []
        self.died: list[Job] = []
        self.number = 0
        self.codes: dict[str, Counter[int]] = {}
        self.kills: Counter[str] = Counter()
        self.completed = self.different = 0
        self.there: set[str] = set()
        self.vanished: Counter[str] = Counter()
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Run each seed without interruption in a separate store; all processes then share the loaded modules."""
        os.environ["ADVUNLEARN_CACHE"] = str(self.place / "unbroken")
        self.expected = {}
        for seed in range(self.options.seeds):
            start, folder = time.monotonic(), self.place / f"seed{seed}"
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                advunlearn_main(["run", *self.overrides, f"seed={seed}", f"hydra.run.dir={folder}"])
            self.expected[seed] = metrics_of(folder)
            self.seconds = time.monotonic() - start
        self.whole = artefacts(self.place / "unbroken" / "store")
        os.environ["ADVUNLEARN_CACHE"] = str(self.place / "cache")
        print(f"uninterrupted: {self.seconds:.1f} s a run, {len(self.whole)} artefacts", flush=True)

    def work(self) -> None:
        """Start and kill processes until there were enough kills, then run every seed once more."""
        start = time.monotonic()
        while self.kills.total() < self.options.kills and time.monotonic() - start < 60 * self.options.minutes:
            while sum(job.kind in ("run", "resume") for job in self.jobs) < self.options.runs:
                self.start_run()
            if not any(job.kind in CARE for job in self.jobs):
                kind = self.rng.choice(list(CARE))
                self.begin(kind, ["store", *CARE[kind]])
            self.look()
            time.sleep(0.02)
        self.minutes = (time.monotonic() - start) / 60
        for job in self.jobs:
            job.delay = job.dies = float("inf")
        self.wait()
        for seed in range(self.options.seeds):
            self.begin_run(seed, float("inf"))
            self.wait()
        self.begin("verify", ["store", "verify"])
        self.wait()

    def start_run(self) -> None:
        """Start a run, or resume one that was killed; nine of ten are to be killed."""
        delay = self.rng.uniform(-0.2, 0.8) * self.seconds if self.rng.random() < 0.9 else float("inf")
        if self.died and self.rng.random() < 0.5:
            before = self.died.pop(self.rng.randrange(len(self.died)))
            self.begin("resume", ["resume", str(before.folder)], before.seed, before.folder, delay)
        else:
            self.begin_run(self.rng.randrange(self.options.seeds), delay)

    def begin_run(self, seed: int, delay: float) -> None:
        """Start a run in a new folder."""
        folder = self.place / "runs" / str(self.number)
        self.begin("run", ["run", *self.overrides, f"seed={seed}", f"hydra.run.dir={folder}"], seed, folder, delay)

    def begin(
        self, kind: str, words: list[str], seed: int = 0, folder: Path = Path(), delay: float = float("inf")
    ) -> None:
        """Start a process that types a command, and is to die some seconds after it wrote its manifest."""
        output = self.place / f"output{self.number}.txt"
        self.number += 1
        process = multiprocessing.get_context("fork").Process(target=type_it, args=(words, self.place, output))
        process.start()
        self.jobs.append(Job(kind, process, output, seed, folder, delay))

    def look(self) -> None:
        """Kill processes whose time has come, and record those that ended."""
        for job in self.jobs:
            if job.dies == float("inf") and (job.delay < 0 or (job.folder / "manifest.json").exists()):
                job.dies = time.monotonic() + abs(job.delay)
            if time.monotonic() >= job.dies and job.process.is_alive():
                os.kill(job.process.pid or 0, signal.SIGKILL)
                job.process.join()
                job.killed = job.process.exitcode == -signal.SIGKILL
        there = {path.name for path in self.store.glob("??/*")}
        self.vanished.update(self.there - there)
        self.there = there
        for job in [job for job in self.jobs if not job.process.is_alive()]:
            self.jobs.remove(job)
            self.note(job)

    def wait(self) -> None:
        """Wait for all processes."""
        while self.jobs:
            self.look()
            time.sleep(0.01)

    def note(self, job: Job) -> None:
        """Record how a process ended."""
        code = job.process.exitcode or 0
        if job.killed:
            self.kills[stage(job.folder)] += 1
            if (job.folder / "config.yaml").exists() and stage(job.folder) != "completed":
                self.died.append(job)
            return
        self.codes.setdefault(job.kind, Counter())[code] += 1
        if code:
            self.problems.append(
                f"{job.kind} ended with {code}: {job.output.read_text(encoding='utf-8').strip()[-2000:]}"
            )
        elif job.kind in ("run", "resume"):
            self.completed += 1
            self.different += metrics_of(job.folder) != self.expected[job.seed]

    def table(self) -> list[tuple[str, int, int]]:
        """Return the rows of the table: the event, its count, and how often it was wrong."""
        output = "\n".join(path.read_text(encoding="utf-8") for path in self.place.glob("output*.txt"))
        pruned = Counter(re.findall(r"^([0-9a-f]{16})  \S+ +[\d.]+ days", output, re.MULTILINE))
        lost = sum(max(0, count - pruned[name[:16]]) for name, count in self.vanished.items())
        damaged = output.count("set aside") + sum(map(int, re.findall(r"(\d+) damaged in", output)))
        there = artefacts(self.store)
        other = sum(contents(there[name]) != contents(self.whole.get(name, {})) for name in there)
        return [
            *((f"kill -9 in '{name}'", count, 0) for name, count in sorted(self.kills.items())),
            ("kill -9, all", self.kills.total(), 0),
            *((f"`{kind}` completed", each.total(), each.total() - each[0]) for kind, each in self.codes.items()),
            ("metrics compared with uninterrupted runs", self.completed, self.different),
            ("artefacts compared with uninterrupted runs", len(there), other),
            ("artefacts deleted; wrong: not by a prune", self.vanished.total(), lost),
            ("artefacts found damaged", 0, damaged),
        ]


def show(soak: Soak) -> int:
    """Print the table and the problems, and return the number of wrong results."""
    print(f"\n{soak.minutes:.1f} minutes, {soak.options.runs} runs at the same time\n")
    print("| | count | wrong |\n|---|---|---|")
    for row in soak.table():
        print(f"| {' | '.join(map(str, row))} |")
    print("".join(f"\n{problem}\n" for problem in soak.problems))
    return sum(wrong for *_, wrong in soak.table())


def type_it(words: list[str], place: Path, output: Path) -> None:
    """Run a command in this process, in an empty folder, with its output in a file."""
    os.chdir(place)
    file = os.open(output, os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.exit(advunlearn_main(words))


def metrics_of(folder: Path) -> dict[str, Any]:
    """Return a run's metrics without times, and without the memory of the process that unlearned."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    unlearning = {name: value for name, value in metrics["unlearning"].items() if name not in OF_THE_PROCESS}
    return {**{name: value for name, value in metrics.items() if name not in TIMES}, "unlearning": unlearning}


def stage(folder: Path) -> str:
    """Return the stage that a run was in when it was killed."""
    if not (folder / "manifest.json").exists():
        return "start"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    done = sum(each["completed"] for each in manifest["stages"])
    return STAGES[done] if manifest["status"] == "running" else manifest["status"]


def artefacts(store: Path) -> dict[str, Any]:
    """Return the markers of the artefacts in a store, by digest."""
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in store.glob("??/*/complete.json")}


def contents(marker: dict[str, Any]) -> dict[str, str]:
    """Return the checksums of tensors and arrays, which hold no times."""
    return {name: digest for name, digest in marker.get("files", {}).items() if not name.endswith(".json")}


if __name__ == "__main__":
    main()
