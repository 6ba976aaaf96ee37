"""Sweeps: a folder a run with its resolved config, which `advunlearn resume` runs, here or on a cluster."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from advunlearn.config.compose import Job
from advunlearn.config.experiment import SHARED, Experiment, read_experiment
from advunlearn.config.part_files import ATTACK, LOGGER
from advunlearn.options import ConfigError
from advunlearn.runtime.terminal import asked
from advunlearn.storage.files import atomic_write, write_json
from advunlearn.storage.paths import new_output_folder


def new_folder() -> Path:
    """Return the folder of a sweep that begins now."""
    return new_output_folder("sweeps")


def freeze(folder: Path, jobs: Sequence[Job], methods: Sequence[str] = ()) -> None:
    """Write `folder/N/config.yaml` for each job, resolved, and next to it `job.json` with its overrides.

    In a comparison, `job.json` also has the name of the job's method.

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
    named: list[dict[str, str]] = [{"method": method} for method in methods] or [{} for _ in jobs]
    about = {"command": asked.command}
    for (here, text), job, name in zip(texts.items(), jobs, named, strict=True):
        write_json(here / "job.json", {**about, "overrides": job.overrides, "choices": job.choices, **name})
        with atomic_write(here / "config.yaml") as temporary:  # last: what holds it can be run
            temporary.write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


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
    key = {
        name: part for name, part in experiment.config.items() if name not in ("unlearner", "forget", ATTACK, LOGGER)
    }
    key[ATTACK] = {name: experiment.config[ATTACK].get(name) for name in SHARED}
    key["needs"] = [experiment.needs_shadows, experiment.needs_originals]
    if experiment.needs_originals:
        key["unlearner"] = experiment.config["unlearner"]
    forget = experiment.forget
    if experiment.needs_originals or forget.changes or len(forget.required_rows(experiment.dataset.info().names)):
        key["forget"] = experiment.config["forget"]
    return key


def _shard(job: Job, part: str) -> Job:
    config = copy.deepcopy(job.experiment.config)
    config[ATTACK]["shard"] = part
    experiment = read_experiment(OmegaConf.create(config))
    return replace(job, overrides=[*job.overrides, f"{ATTACK}.shard={part}"], experiment=experiment)
