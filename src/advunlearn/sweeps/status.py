"""Where the runs of a sweep stand: what their folders say, and what Slurm knows better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advunlearn.options import UserError
from advunlearn.runs.state import last_line, state_of
from advunlearn.sweeps import slurm
from advunlearn.sweeps.submission import RUNS, Sweep


@dataclass(frozen=True)
class Status:
    """Where one job of a sweep stands, in a word and in more words, and the seconds that it has computed."""

    number: int
    overrides: list[str]
    state: str
    detail: str
    seconds: float | None

    @property
    def stuck(self) -> bool:
        """Will it not be completed unless somebody does something?"""
        return self.state in ("failed", "died", "cancelled", "interrupted", "not submitted")


def statuses(folder: Path, part: str = RUNS) -> tuple[list[Status], str | None]:
    """Return where each job in a sweep's folder stands, and why Slurm could not be asked, if it had to be.

    Raises:
        ValueError: if there is no job in it.
    """
    sweep = Sweep.read(folder) if (folder / "sweep.json").is_file() else None
    here = folder / part
    numbers = sorted(int(path.name) for path in here.glob("*") if path.name.isdigit() and _is_job(path))
    if not numbers and part == RUNS:
        raise UserError(f"{folder}: no sweep (it would hold a folder for each run: 0, 1, ...)")
    tasks = sweep.tasks(part) if sweep else {}
    known, trouble = _ask_slurm(set(tasks.values()))
    found = []
    for number in numbers:
        about = _read_json(here / str(number) / "job.json") | _read_json(here / str(number) / "manifest.json")
        task = tasks.get(number)
        own = state_of(here / str(number))
        state, detail = judge(own.name, *(known.get(task, ("", "")) if task else ("", "")))
        if sweep and not task and state == "waiting":
            state = "not submitted"
        if state in ("failed", "died"):
            detail = last_line(own.error) or last_line(_log(here, number)) or detail
        found.append(Status(number, about.get("overrides", []), state, detail, about.get("seconds")))
    return found, trouble


def varying(overrides: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return of each run's overrides those that not all runs have."""
    common = set.intersection(*map(set, overrides)) if overrides else set()
    return [[word for word in words if word not in common] for words in overrides]


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
    """Return how a job stands, and details, from what its folder says and, where it knows the job, Slurm."""
    if own == "completed":
        return own, ""
    if state and state != slurm.CANCELLED and state not in slurm.ENDED:
        if state in ("PENDING", "REQUEUED"):
            return "queued" if own == "waiting" else "requeued", words
        return "running", "" if state == "RUNNING" else state.lower()
    if own in ("failed", "running"):
        return own, ""
    if state == slurm.CANCELLED:
        return "cancelled", ""
    if state:  # what fails before the program can say so has failed
        return "failed" if (own, state) == ("waiting", "FAILED") else "died", f"Slurm says {state} {words}".rstrip()
    return own, ""


def _log(folder: Path, number: int) -> str:
    """Return what a job wrote under Slurm."""
    log = folder / "logs" / f"{number}.log"
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
