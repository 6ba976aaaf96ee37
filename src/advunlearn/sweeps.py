"""Sweeps: a folder a run with its resolved config, which `advunlearn resume` runs, here or on a cluster."""

from __future__ import annotations

import copy
import datetime
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from advunlearn import slurm
from advunlearn.config import ATTACK, SHARED, Experiment, read_experiment
from advunlearn.files import atomic_write, write_json
from advunlearn.options import ConfigError
from advunlearn.overrides import Job
from advunlearn.runs import state_of

RUNS, SHADOWS = ".", "shadows"  # a sweep's folders of jobs: its runs, and those that train shadow models alone
Numbers = dict[str, list[int]]  # of jobs, by folder


def new_folder() -> Path:
    """Return the folder of a sweep that begins now."""
    return Path("outputs") / "sweeps" / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"


def freeze(folder: Path, jobs: Sequence[Job]) -> None:
    """Write `folder/N/config.yaml` for each job, resolved, and beside it in `job.json` what it was made from.

    Raises:
        ConfigError: if the folder holds another sweep.
    """
    texts = {
        folder / str(number): OmegaConf.to_yaml(OmegaConf.create(job.experiment.config))
        for number, job in enumerate(jobs)
    }
    others = [here for here, text in texts.items() if _text(here / "config.yaml") not in ("", text)]
    if others:
        raise ConfigError([f"{others[0]} holds another run; choose another folder for this sweep"])
    for (here, text), job in zip(texts.items(), jobs, strict=True):
        write_json(here / "job.json", {"overrides": job.overrides, "choices": job.choices})
        with atomic_write(here / "config.yaml") as temporary:  # last: what holds it can be run
            temporary.write_text(text)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def shadow_shards(jobs: Sequence[Job], shards: int) -> list[Job]:
    """Return `shards` jobs for each set of shadow models that these jobs need, which together train all of it."""
    needed: dict[str, Job] = {}
    for job in jobs:
        experiment = job.experiment
        if (experiment.needs_shadows or experiment.needs_originals) and experiment.shadow_options.shard is None:
            needed.setdefault(json.dumps(_shadow_key(experiment), sort_keys=True), job)
    return [_shard(job, f"{part}/{shards}") for job in needed.values() for part in range(1, shards + 1)]


def _shadow_key(experiment: Experiment) -> dict[str, Any]:
    """Return the part of a config that its shadow models depend on, or more: the store trains none of them twice."""
    key = {name: part for name, part in experiment.config.items() if name not in ("unlearner", "forget", ATTACK)}
    key[ATTACK] = {name: experiment.config[ATTACK].get(name) for name in SHARED}
    key["needs"] = [experiment.needs_shadows, experiment.needs_originals]
    if experiment.needs_originals:
        key["unlearner"] = experiment.config["unlearner"]
    if experiment.needs_originals or len(experiment.forget.required_rows()):
        key["forget"] = experiment.config["forget"]
    return key


def _shard(job: Job, part: str) -> Job:
    config = copy.deepcopy(job.experiment.config)
    config[ATTACK]["shard"] = part
    experiment = read_experiment(OmegaConf.create(config))
    return replace(job, overrides=[*job.overrides, f"{ATTACK}.shard={part}"], experiment=experiment)


def varying(overrides: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return of each run's overrides those that not all runs have."""
    common = set.intersection(*map(set, overrides)) if overrides else set()
    return [[word for word in words if word not in common] for words in overrides]


@dataclass
class Sweep:
    """A sweep that was frozen to be sent to Slurm, in one array a folder of jobs, and what `sweep.json` says of it.

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
        cache = os.environ.get("ADVUNLEARN_CACHE")
        cache = str(Path(cache).expanduser().absolute()) if cache else None
        return cls(folder, os.getcwd(), cache, flags, {SHADOWS: shards, RUNS: runs}, [])

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """Return the sweep that `write` wrote to a folder."""
        record = json.loads((folder / "sweep.json").read_text())
        del record["schema"]
        return cls(folder, **{**record, "flags": slurm.Flags(**record["flags"])})

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
                temporary.write_text(text)
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
            SlurmError: if Slurm does not say what is in the queue.
        """
        tasks = self.tasks(part)
        queue = slurm.queue({job for job, _ in tasks.values()}) if tasks else {}
        over = (slurm.CANCELLED, *slurm.ENDED)
        busy = {number for number, task in tasks.items() if task in queue and queue[task][0] not in over}
        states = {number: state_of(self.folder / part / str(number)).name for number in range(self.jobs[part])}
        done = {number for number, state in states.items() if state in ("completed", "running")}
        return sorted(states.keys() - busy - done)
