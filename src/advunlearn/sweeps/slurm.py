"""Slurm: the batch script of a job array, and the output of `sbatch`, `squeue` and `sacct`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from advunlearn.options import UserError

TIMEOUT = 30  # seconds that a command of Slurm's may take
CANCELLED = "CANCELLED"
# Other states of a job that will not run again.
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL", "DEADLINE")
Task = tuple[str, int]  # an array's job id and the number in it


class SlurmError(UserError):
    """A command of Slurm failed, or is not available; the message is one line."""


@dataclass(frozen=True)
class Flags:
    """What is asked of Slurm for each job of a sweep, in Slurm's own words; None leaves it to the cluster.

    Attributes:
        partition, account, qos, time, mem, cpus, gpus: of one job.
        parallel: jobs of the sweep that may run at once.
        setup: lines of shell before the program starts.
        sbatch: other options of sbatch, without the dashes.
        name: of the array in the queue.
        signal_seconds: before the time limit, when a job is told to write a checkpoint and goes back into the queue.
        requeues: how often a job that was killed is started again.
        requeue_cancelled: also if it was killed by `scancel` without `-b`, which Slurm handles like a cancellation.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    mem: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    parallel: int | None = None
    setup: list[str] = field(default_factory=list)
    sbatch: list[str] = field(default_factory=list)
    name: str = "advunlearn"
    signal_seconds: int = 120
    requeues: int = 3
    requeue_cancelled: bool = False

    def options(self) -> list[str]:
        """Return the options of sbatch that do not depend on the jobs."""
        named = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time,
            "mem": self.mem,
            "cpus-per-task": self.cpus,
            "gres": self.gpus and f"gpu:{self.gpus}",
        }
        return [*(f"{name}={value}" for name, value in named.items() if value), *self.sbatch]


_SCRIPT = Path(__file__).with_name("job.sh")
_DIRECTIVE = re.compile(r"^# shellcheck .*\n", re.MULTILINE)


def script(folder: Path, numbers: Sequence[int], flags: Flags, workplace: Path, cache: str | None) -> str:
    """Return the batch script of an array that runs `folder/N` for these numbers.

    Args:
        folder: absolute.
        numbers: of the jobs.
        flags: what to ask for.
        workplace: where the jobs run, absolute.
        cache: of data and artefacts, absolute; None leaves it to the cluster.
    """
    limit = f"%{flags.parallel}" if flags.parallel else ""
    options = [
        f"job-name={flags.name}",
        f"array={ranges(numbers)}{limit}",
        f"chdir={workplace}",
        f"output={str(folder / 'logs').replace('%', '%%')}/%a.log",
        "open-mode=append",
        "requeue",
        f"signal=USR1@{flags.signal_seconds}",
        "nodes=1",
        "ntasks=1",
        *flags.options(),
    ]
    kept = [f"export ADVUNLEARN_CACHE={shlex.quote(cache)}"] if cache else []
    # Names that are not given here are the script's own, and stay.
    return Template(_DIRECTIVE.sub("", _SCRIPT.read_text(encoding="utf-8"))).safe_substitute(
        OPTIONS="\n#SBATCH ".join(f"--{_quoted(option)}" for option in options),
        SETUP="".join(f"{line}\n" for line in [*kept, *flags.setup]),
        FOLDER=shlex.quote(str(folder)),
        PYTHON=shlex.quote(sys.executable),
        REQUEUES=flags.requeues,
        OR_CANCELLED='\n    else\n      killed "cancelled"' if flags.requeue_cancelled else "",
    )


def _quoted(option: str) -> str:
    name, equals, value = option.partition("=")
    return name + equals + (f'"{value}"' if " " in value and '"' not in value else value)


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as Slurm writes them: `0-3,7`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def submit(script: Path, after: str | None = None) -> str:
    """Send a batch script and return its job id; it waits for the end of the job `after`, however that ends.

    Raises:
        SlurmError: if Slurm does not take it.
    """
    dependency = [f"--dependency=afterany:{after}"] if after else []
    return _ask(["sbatch", "--parsable", *dependency, str(script)], outside(os.environ)).strip().split(";")[0]


def outside(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what an allocation that we are in would make of a new job."""
    if "SLURM_JOB_ID" not in environment:
        return dict(environment)
    inherited = ("SLURM_", "SBATCH_", "SRUN_")
    return {
        name: value for name, value in environment.items() if name == "SLURM_CONF" or not name.startswith(inherited)
    }


def queue(ids: Iterable[str]) -> dict[Task, tuple[str, str]]:
    """Return state and reason of each task of these arrays that waits, runs, or ended minutes ago.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    try:
        lines = _ask(["squeue", "-h", "-r", "-t", "all", "-o", "%F|%K|%T|%r", "-j", ",".join(ids)])
    except SlurmError as error:
        if "Invalid job id" in str(error):  # all of them ended long ago
            return {}
        raise
    rows = (line.split("|") for line in lines.splitlines())
    known = {(array, number): (state, "" if reason == "None" else reason) for array, number, state, reason in rows}
    return {(array, int(number)): state for (array, number), state in known.items() if number.isdigit()}


def history(ids: Iterable[str]) -> dict[Task, tuple[str, str]]:
    """Return the last state of each task of these arrays that Slurm's accounting knows, and its exit code if not 0.

    Raises:
        SlurmError: if there is no accounting.
    """
    found = {}
    for line in _ask(["sacct", "-X", "-n", "-P", "-o", "JobID,State,ExitCode", "-j", ",".join(ids)]).splitlines():
        job, state, code = line.split("|")
        array, _, number = job.partition("_")
        if number.isdigit():
            found[array, int(number)] = state.split()[0], code if code != "0:0" else ""
    return found


def _ask(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    name = command[0]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            env=environment,
        )
    except FileNotFoundError:
        raise SlurmError(f"{name}: not found on this machine") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name}: no answer in {TIMEOUT} s") from None
    if done.returncode:
        lines = [line.removeprefix(f"{name}: ").removeprefix("error: ") for line in done.stderr.splitlines() if line]
        raise SlurmError(f"{name}: {'; '.join(lines) or f'exit status {done.returncode}'}")
    return done.stdout
