"""The folders of runs: where they are, and how far the run in each is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advunlearn.storage.locks import seems_held

CLAIM = ".running"  # held while a run goes on


def runs_below(path: Path) -> list[Path]:
    """Return the folders of runs at and below a path, finished or not, begun or not, a sweep's in its order."""
    runs = {manifest.parent for manifest in path.rglob("manifest.json")}
    # Hydra keeps the config of a job in .hydra, before the job writes its own.
    configs = {config.parent for config in path.rglob("config.yaml")}
    runs |= {folder.parent if folder.name == ".hydra" else folder for folder in configs}
    return sorted(runs, key=_by_number)


def _by_number(folder: Path) -> list[tuple[int, str]]:
    """Sort a sweep's tenth job behind its ninth, and its shadow models, in a folder with a name, before both."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in folder.parts]


@dataclass(frozen=True)
class State:
    """How far a run's folder is, and what went wrong, in words, if anything did.

    `waiting` has a config and was never begun; `running`; `completed`; `failed` by an error; `interrupted` by a signal,
    cleanly; `died` without a word, as by kill -9 or a power cut.
    """

    name: str
    error: str | None = None

    def __str__(self) -> str:
        """Return the name, and the last line of the error."""
        return f"{self.name}: {last_line(self.error)}" if self.error else self.name


def last_line(text: str | None) -> str:
    """Return the last line of a text that is not blank; empty if there is none."""
    return next((line.strip() for line in reversed((text or "").splitlines()) if line.strip()), "")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return a run's manifest, or None where it has none yet."""
    try:
        found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        return None
    return found


def state_of(folder: Path) -> State:
    """Return how far the run in this folder is."""
    found = read_manifest(folder)
    if found is None:
        return State("waiting")
    if found["status"] == "running" and not _is_held(folder):
        return State("died", found["error"])
    return State(found["status"], found["error"])


def _is_held(folder: Path) -> bool:
    try:
        return seems_held(folder / CLAIM)
    except OSError:
        return True  # somebody else's folder: what its manifest says has to do
