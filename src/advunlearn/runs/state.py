"""The folders of runs, and the state of the run in each."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from advunlearn.evaluation.metrics_file import read_metrics
from advunlearn.storage.files import UnreadableFile, read_json
from advunlearn.storage.locks import seems_held

CLAIM = ".running"  # held while a run is in progress


def runs_below(path: Path) -> list[Path]:
    """Return the folders of all runs at and below a path; those of a sweep in its order."""
    runs = {manifest.parent for manifest in path.rglob("manifest.json")}
    # Hydra keeps the config of a job in .hydra, before the job writes its own.
    configs = {config.parent for config in path.rglob("config.yaml")}
    runs |= {folder.parent if folder.name == ".hydra" else folder for folder in configs}
    return sorted(runs, key=_by_number)


def _by_number(folder: Path) -> list[tuple[int, str]]:
    """Sort a sweep's tenth job after its ninth, and its shadow models, in a folder with a name, before both."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in folder.parts]


@dataclass(frozen=True)
class State:
    """The state of the run in a folder, and its error, if any.

    `waiting` has a config and was never begun; `running`; `completed`; `failed` by an error; `interrupted` by a signal,
    cleanly; `died` without recording an error (kill -9, power loss); `damaged`: its manifest or its metrics, so that
    it has to be repeated; of an `other version` of advunlearn, which may understand it.
    """

    name: str
    error: str | None = None

    def __str__(self) -> str:
        """Return the name, and the last line of the error."""
        return f"{self.name}: {last_line(self.error)}" if self.error else self.name


def last_line(text: str | None) -> str:
    """Return the last non-blank line of a text; empty without one."""
    return next((line.strip() for line in reversed((text or "").splitlines()) if line.strip()), "")


class _Required(TypedDict):
    status: Literal["running", "completed", "failed", "interrupted"]
    error: str | None


class ManifestFile(_Required, total=False):
    """What others read in `manifest.json`; `Manifest` writes it, with more for people to read.

    Attributes:
        status: of the run, at the last time that it was written.
        error: what the run ended with; None if nothing is wrong.
        overrides: that the user typed for it.
        choices: the option of each group.
        attempts: `status`, `error` and times of earlier attempts in this folder.
        checksums: the SHA-256 of the files of results, by name.
        seconds: that the last attempt took.
    """

    overrides: list[str]
    choices: dict[str, Any]
    attempts: list[dict[str, Any]]
    checksums: dict[str, str]
    stages: list[dict[str, Any]]
    seconds: float


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return a run's manifest, or None if it has none yet.

    Raises:
        UnreadableFile: in one line, if it is damaged or is not a manifest.
    """
    path = folder / "manifest.json"
    return dict(read_json(path, ManifestFile, optional=True)) if os.path.lexists(path) else None


class About(TypedDict, total=False):
    """What is known of a run from its files, in any state."""

    overrides: list[str]
    choices: dict[str, Any]
    seconds: float
    method: str  # its name in a comparison
    verb: str
    command: str  # as it was typed, for one run or for all of a sweep


def about(folder: Path) -> About:
    """Return what is known of a run from its manifest and from its job of a sweep, as far as they are readable."""
    found: About = {}
    for name in ("job.json", "manifest.json"):
        with contextlib.suppress(UnreadableFile):
            found.update(read_json(folder / name, About, optional=True))
    return found


def state_of(folder: Path) -> State:
    """Return the state of the run in this folder; an unreadable file is a state, not an error."""
    try:
        found = read_manifest(folder)
    except UnreadableFile as error:
        return State("other version" if error.other_version else "damaged", f"manifest.json: {error.reason}")
    if found is None:
        return State("waiting")
    if found["status"] == "running" and not _is_held(folder):
        return State("died", found["error"])
    damage = _damage(folder, found) if found["status"] == "completed" else None
    return State("damaged", damage) if damage else State(found["status"], found["error"])


def _damage(folder: Path, manifest: dict[str, Any]) -> str | None:
    """Return what is wrong with the metrics of a completed run; None if nothing is, or if it has none: a shard."""
    if "metrics.json" not in manifest.get("checksums", {}) and not (folder / "metrics.json").exists():
        return None
    try:
        read_metrics(folder)
    except UnreadableFile as error:
        return None if error.other_version else f"metrics.json: {error.reason}"
    return None


def config_of(folder: Path) -> Path:
    """Return the path of a run's config, which may not exist: its own, or that of Hydra until its own is written."""
    own, hydras = folder / "config.yaml", folder / ".hydra" / "config.yaml"
    return hydras if hydras.is_file() and not own.is_file() else own


def _is_held(folder: Path) -> bool:
    try:
        return seems_held(folder / CLAIM)
    except OSError:
        return True  # another user's folder: only its manifest can be used
