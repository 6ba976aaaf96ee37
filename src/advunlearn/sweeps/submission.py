"""The jobs of a sweep that were sent to Slurm, recorded in `sweep.json`, and those to send again."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from advunlearn.runs.state import state_of
from advunlearn.storage.files import UnreadableFile, atomic_write, read_json, write_json
from advunlearn.storage.paths import cache_folder
from advunlearn.sweeps import slurm

RUNS, SHADOWS = ".", "shadows"  # a sweep's folders of jobs: its runs, and those that train shadow models alone
Numbers = dict[str, list[int]]  # of jobs, by folder


class SweepFile(TypedDict):
    """The contents of `sweep.json`; see `Sweep`."""

    schema: Literal[1]
    workplace: str
    cache: str | None
    flags: dict[str, Any]
    jobs: dict[str, int]
    sent: list[dict[str, Any]]


@dataclass
class Sweep:
    """A sweep that was frozen for Slurm, with one array per folder of jobs, and the contents of its `sweep.json`.

    Attributes:
        folder: that holds `N/config.yaml` for each run, and under `shadows` for each job that trains shadow models.
        workplace: where its jobs run.
        cache: of data and artefacts; None leaves it to the cluster.
        flags: what to ask of Slurm.
        jobs: how many there are, by folder.
        sent: the arrays that were sent, in turn: folder, Slurm's job id, numbers, time.
    """

    folder: Path
    workplace: str
    cache: str | None
    flags: slurm.Flags
    jobs: dict[str, int]
    sent: list[dict[str, Any]]

    @classmethod
    def new(cls, folder: Path, flags: slurm.Flags, runs: int, shards: int) -> Sweep:
        """Return a sweep that nothing was sent of."""
        chosen = os.environ.get("ADVUNLEARN_CACHE") or os.environ.get("XDG_CACHE_HOME")
        cache = str(cache_folder().absolute()) if chosen else None
        return cls(folder, os.getcwd(), cache, flags, {SHADOWS: shards, RUNS: runs}, [])

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """Return the sweep that `write` wrote to a folder.

        Raises:
            UnreadableFile: in one line, if the file is damaged or another version wrote it.
        """
        path = folder / "sweep.json"
        record: dict[str, Any] = dict(read_json(path, SweepFile))
        del record["schema"]
        try:
            return cls(folder, **{**record, "flags": slurm.Flags(**record["flags"])})
        except TypeError as error:  # keys of another version
            raise UnreadableFile(
                path, f"made by another version of advunlearn ({error})", other_version=True
            ) from error

    def write(self) -> None:
        """Write `sweep.json`."""
        record = {name: value for name, value in vars(self).items() if name != "folder"}
        write_json(self.folder / "sweep.json", {"schema": 1, **record, "flags": asdict(self.flags)})

    def scripts(self, numbers: Numbers) -> Iterator[tuple[str, str]]:
        """Yield folder and batch script of each array that these jobs make, shadow models first."""
        for part in (SHADOWS, RUNS):
            if numbers[part]:
                folder = (self.folder / part).absolute()
                name = f"{self.flags.name}-{part}" if part == SHADOWS else self.flags.name
                flags = replace(self.flags, name=name)
                yield part, slurm.script(folder, numbers[part], flags, Path(self.workplace), self.cache)

    def send(self, numbers: Numbers) -> Iterator[tuple[str, str]]:
        """Send these jobs; yield folder and job id of each array that Slurm took. Runs wait for shadow models.

        Raises:
            SlurmError: if Slurm does not take one; those before are sent, and noted as such.
        """
        after = None
        for part, text in self.scripts(numbers):
            folder = self.folder / part
            (folder / "logs").mkdir(exist_ok=True)
            for number in numbers[part]:
                (folder / "logs" / f"{number}.kills").unlink(missing_ok=True)
            with atomic_write(folder / "job.sbatch") as temporary:
                temporary.write_text(text, encoding="utf-8")
            after = slurm.submit(folder / "job.sbatch", after)
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            self.sent.append({"folder": part, "id": after, "numbers": numbers[part], "time": now})
            self.write()
            yield part, after

    def tasks(self, part: str) -> dict[int, slurm.Task]:
        """Return Slurm's name of each job of a folder that was sent, the last one."""
        arrays = [sent for sent in self.sent if sent["folder"] == part]
        return {number: (sent["id"], number) for sent in arrays for number in sent["numbers"]}

    def idle(self, part: str) -> list[int]:
        """Return the jobs of a folder that are neither completed nor running nor in the queue.

        Raises:
            SlurmError: if Slurm does not answer what is in the queue.
        """
        tasks = self.tasks(part)
        queue = slurm.queue({job for job, _ in tasks.values()}) if tasks else {}
        over = (slurm.CANCELLED, *slurm.ENDED)
        busy = {number for number, task in tasks.items() if task in queue and queue[task][0] not in over}
        states = {number: state_of(self.folder / part / str(number)).name for number in range(self.jobs[part])}
        done = {number for number, state in states.items() if state in ("completed", "running")}
        return sorted(states.keys() - busy - done)
