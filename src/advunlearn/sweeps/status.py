"""The states of the runs of a sweep, from their folders and from Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advunlearn.options import UserError
from advunlearn.runs.state import about, last_line, state_of
from advunlearn.storage.files import UnreadableFile
from advunlearn.sweeps import slurm
from advunlearn.sweeps.submission import RUNS, Sweep

UNREADABLE = ("damaged", "other version")


@dataclass(frozen=True)
class Status:
    """The state of one job of a sweep, in one word and with details, and the seconds that it has computed."""

    number: int
    overrides: list[str]
    state: str
    detail: str
    seconds: float | None

    @property
    def stuck(self) -> bool:
        """Return whether it will not be completed without action."""
        return self.state in ("failed", "died", "cancelled", "interrupted", "not submitted", *UNREADABLE)


def statuses(folder: Path, part: str = RUNS) -> tuple[list[Status], str | None]:
    """Return the state of each job in a sweep's folder, and why Slurm could not be queried, if needed.

    Raises:
        ValueError: if there is no job in it.
    """
    sweep, damage = _read_sweep(folder)
    here = folder / part
    numbers = sorted(int(path.name) for path in here.glob("*") if path.name.isdigit() and _is_job(path))
    if not numbers and part == RUNS:
        raise UserError(f"{folder}: no sweep (it would hold a folder for each run: 0, 1, ...)")
    tasks = sweep.tasks(part) if sweep else {}
    known, trouble = _ask_slurm(set(tasks.values()))
    found = []
    for number in numbers:
        known_of = about(here / str(number))
        task = tasks.get(number)
        own = state_of(here / str(number))
        state, detail = judge(own.name, *(known.get(task, ("", "")) if task else ("", "")))
        if sweep and not task and state == "waiting":
            state = "not submitted"
        if state in ("failed", "died", *UNREADABLE):
            detail = last_line(own.error) or last_line(_log(here, number)) or detail
        found.append(Status(number, known_of.get("overrides", []), state, detail, known_of.get("seconds")))
    return found, damage or trouble


def varying(overrides: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return of each run's overrides those that not all runs have."""
    common = set.intersection(*map(set, overrides)) if overrides else set()
    return [[word for word in words if word not in common] for words in overrides]


def _read_sweep(folder: Path) -> tuple[Sweep | None, str | None]:
    """Return what was sent to Slurm, if anything was, and why that is not known."""
    try:
        return (Sweep.read(folder) if (folder / "sweep.json").is_file() else None), None
    except UnreadableFile as error:
        return None, str(error)


def _is_job(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() or (folder / "manifest.json").is_file()


def _ask_slurm(tasks: set[slurm.Task]) -> tuple[dict[slurm.Task, tuple[str, str]], str | None]:
    """Return what Slurm knows of tasks, and the reason if it did not answer every question.

    The queue is asked first, then the accounting for what the queue has forgotten.
    """
    known: dict[slurm.Task, tuple[str, str]] = {}
    try:
        if tasks:
            known = slurm.queue({job for job, _ in tasks})
        if tasks - known.keys():
            known = slurm.history({job for job, _ in tasks}) | known
    except slurm.SlurmError as error:
        return known, str(error)
    return known, None


def judge(own: str, state: str, words: str) -> tuple[str, str]:
    """Return the state of a job, and details, from its folder and, if it knows the job, from Slurm."""
    if own == "completed":
        return own, ""
    if state and state != slurm.CANCELLED and state not in slurm.ENDED:
        if state in ("PENDING", "REQUEUED"):
            return "queued" if own == "waiting" else "requeued", words
        return "running", "" if state == "RUNNING" else state.lower()
    if own in ("failed", "running", *UNREADABLE):
        return own, ""
    if state == slurm.CANCELLED:
        return "cancelled", ""
    if state:  # it failed before the program could record it
        return "failed" if (own, state) == ("waiting", "FAILED") else "died", f"Slurm: {state} {words}".rstrip()
    return own, ""


def _log(folder: Path, number: int) -> str:
    """Return what a job wrote under Slurm."""
    log = folder / "logs" / f"{number}.log"
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
