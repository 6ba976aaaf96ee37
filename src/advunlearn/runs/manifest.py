"""What is written about a run while it goes: its state, versions, times, checksums and log."""

from __future__ import annotations

import contextlib
import datetime
import functools
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from advunlearn.options import ConfigError, UserError
from advunlearn.runs.state import CLAIM, State, read_manifest, state_of
from advunlearn.runtime.logs import PlainFormatter
from advunlearn.runtime.memory import ShortOfMemory, device_peak, process_peak
from advunlearn.runtime.signals import halt_point
from advunlearn.runtime.terminal import asked
from advunlearn.storage.files import UnreadableFile, atomic_write, file_digest, write_json
from advunlearn.storage.locks import claim

if TYPE_CHECKING:
    import torch

    from advunlearn.runs.profile import Profile

logger = logging.getLogger(__name__)

PACKAGES = ("advunlearn", "torch", "torchvision", "hydra-core", "omegaconf", "numpy", "scikit-learn", "safetensors")
# What is kept of an earlier attempt.
ATTEMPT = ("status", "error", "host", "started", "finished", "seconds", "stages", "most_workers")
SLURM = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME")


class Stage:
    """One stage's notes: whether it was completed, whether its result came from the store, and its name there."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {"completed": False, "reused": False, "artefact": None}

    def note(self, **notes: Any) -> None:
        """Add notes on this stage to the manifest."""
        self.notes.update(notes)


class Log(logging.FileHandler):
    """A log file that does not report a full disk, which the logged work itself reports."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report a line that could not be written, unless the system refused it."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class Manifest:
    """Keep `manifest.json` and `advunlearn.log` of a run's folder true at every moment.

    Used as a context: what leaves it by an exception is recorded, with its traceback in the log, and passed on.
    """

    def __init__(
        self, folder: Path, about: dict[str, Any] | None = None, *, config: Any = None, resume: bool = False
    ) -> None:
        """Take the folder for one run; `about` holds further entries of the manifest.

        Args:
            config: of the run, written before the manifest, so that a run that was killed can always be resumed; None
                leaves it to the caller.
            resume: continue a run that is not completed; otherwise the folder must not hold a run.

        Raises:
            ConfigError: if the folder holds another run.
            UserError: if its run is completed, or its manifest cannot be read.
        """
        state, self.folder, self.config = state_of(folder), folder, config
        if state.name != "waiting" and not resume:
            raise ConfigError([f"{folder} already holds a run; choose another folder (hydra.run.dir=...)"])
        if state.name == "completed":
            raise UserError(f"{folder}: this run is completed")
        if state.name == "other version":
            raise UserError(f"{folder}: {state.error}")
        before = _earlier(folder, state)
        self._damage = state.error if state.name == "damaged" else None
        folder.mkdir(parents=True, exist_ok=True)
        self.device: torch.device | None = None  # known when the run computes something
        self.profile: Profile | None = None  # of a run that asks for it
        self.data: dict[str, Any] = {
            "schema": 1,
            "status": "running",
            "error": None,
            **(about or {}),
            "argv": sys.argv,
            "command": (about or {}).get("command") or asked.command,
            "versions": {"python": platform.python_version(), **_versions()},
            "git": _git_state(),
            "host": platform.node(),
            "process": os.getpid(),
            "slurm": {name: value for name, value in os.environ.items() if name in SLURM},
            "started": _now(),
            "finished": None,
            "stages": [],
            "checksums": {},
            "attempts": [*before.get("attempts", []), {name: before.get(name) for name in ATTEMPT}] if before else [],
        }

    def computes(self, device: torch.device, seed: int) -> None:
        """Note what the run computes on and with."""
        self.device = device
        processor = platform.processor() or platform.machine()
        import torch

        name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
        self.data["versions"]["cuda"] = torch.version.cuda or "none"
        self.note(seed=seed, device=str(device), device_name=name)

    @property
    def _on_cuda(self) -> torch.device | None:
        return self.device if self.device is not None and self.device.type == "cuda" else None

    def note(self, **notes: Any) -> None:
        """Add to the manifest; it is written at the end of the stage, or of the run."""
        self.data.update(notes)

    def most_workers(self) -> int | None:
        """Return how many workers this try may have, if memory was not enough for those of an earlier one."""
        known = [attempt.get("most_workers") for attempt in self.data["attempts"]]
        return next((most for most in reversed(known) if isinstance(most, int)), None)

    def __enter__(self) -> Manifest:
        self._held = contextlib.ExitStack()
        if not self._held.enter_context(claim(self.folder / CLAIM, wait=False, sure=True)):
            self._held.close()
            raise UserError(f"{self.folder}: this run is running already")
        self._handler = Log(self.folder / "advunlearn.log", encoding="utf-8", errors="backslashreplace")
        self._handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger("advunlearn")
        self._level, self._start = root.level, time.perf_counter()
        root.addHandler(self._handler)
        root.setLevel(logging.INFO)
        if self._damage is not None:
            logger.warning("%s: %s; the run is done again", self.folder, self._damage)
        if self.config is not None and not (self.folder / "config.yaml").is_file():
            with atomic_write(self.folder / "config.yaml") as temporary:
                OmegaConf.save(self.config, temporary)
        self.write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.note(status="completed")
        else:
            status = "failed" if isinstance(error, Exception) else "interrupted"
            self.note(status=status, error=f"{type(error).__name__}: {error}".removesuffix(": "))
            if isinstance(error, ShortOfMemory):
                self.note(most_workers=error.fewer)
            if isinstance(error, Exception):
                self._handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, "failed", (), sys.exc_info()))
        self.note(finished=_now(), seconds=self.seconds())
        try:
            with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):  # it would hide the error
                self.write()
        finally:
            root = logging.getLogger("advunlearn")
            root.removeHandler(self._handler)
            root.setLevel(self._level)
            with contextlib.suppress(OSError):
                self._handler.close()
            self._held.close()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time one stage, log one line for it and note it in the manifest, also where it is interrupted."""
        halt_point()
        stage, start = Stage(), time.perf_counter()
        if self._on_cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._on_cuda)
        recording = self.profile.begin() if self.profile is not None else None
        try:
            yield stage
            stage.note(completed=True)
        finally:
            seconds = time.perf_counter() - start
            if recording is not None:
                recording.end()
            stage.note(peak_memory=self._peak_memory())
            self.data["stages"].append({"name": name, "seconds": seconds, **stage.notes})
        self.write()
        if self.profile is not None and recording is not None:
            self.profile.write(name, recording, seconds, reused=stage.notes["reused"])
        logger.info("%-9s %6.1f s%s", name, seconds, "  (from the store)" if stage.notes["reused"] else "")

    def _peak_memory(self) -> int:
        """Return bytes: on CUDA the most that this stage held on the device, on the CPU that the process ever held."""
        return process_peak() if self._on_cuda is None else device_peak(self._on_cuda)

    def seconds(self) -> float:
        """Return the seconds since the run was entered."""
        return time.perf_counter() - self._start

    def checksum(self, *names: str) -> None:
        """Record the SHA-256 of files of the run's folder."""
        self.data["checksums"] |= {name: file_digest(self.folder / name) for name in names}

    def write(self) -> None:
        """Write the current `manifest.json`."""
        write_json(self.folder / "manifest.json", self.data)


def _earlier(folder: Path, state: State) -> dict[str, Any] | None:
    """Return the manifest of an earlier attempt in the folder; of one that cannot be read, what is known of it."""
    try:
        before = read_manifest(folder)
    except UnreadableFile:
        os.replace(folder / "manifest.json", folder / "manifest.damaged.json")  # a user may still read it
        before = {}
    if before is not None and state.name == "damaged":
        before |= {"status": state.name, "error": state.error}
    return before


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@functools.cache  # the loaded code does not change while a process runs
def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@functools.cache
def _git_state() -> dict[str, Any] | None:
    """Return commit and cleanness of the checkout that runs; None where it is installed or git is missing."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout.decode(errors="replace")

    try:
        git("ls-files", "--error-unmatch", __file__)
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain", "-uno").strip())}
    except (OSError, subprocess.SubprocessError):
        return None
