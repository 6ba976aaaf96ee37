"""Several runs as numbers: means and 95 % intervals over seeds, grouped by what else differs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import t
from yaml import YAMLError

from advunlearn.evaluation.comparison import MODELS
from advunlearn.runs.state import last_line, read_manifest, runs_below, state_of
from advunlearn.runtime.settings import Settings

TARGET = "_target_"
PARTS = ("test", "forget", "retain")
SHADOWS_ONLY = "shadow models only"
# Settings that change no number.
# `deterministic` changes results on CUDA alone.
IDLE = {field.name for field in fields(Settings)} - {"deterministic", *Settings().identity()}
_ORIGINAL, _RETRAINED, _UNLEARNED = MODELS


@dataclass(frozen=True)
class Run:
    """One run's folder and what is known of it.

    Attributes:
        config: flat; empty if it was not written.
        metrics: None if the run has no result.
        state: in a word or two, `completed` of a run with metrics.
        error: the last line of why there is no result, empty if nothing is known.
        finished: time of its end.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any] | None
    state: str
    error: str = ""
    finished: str = ""

    @property
    def seed(self) -> str:
        """Return the seed in words, empty if it is not known."""
        return str(self.config.get("seed", ""))


@dataclass(frozen=True)
class Estimate:
    """One number of several runs, a value for each, with what they say of its mean."""

    values: tuple[float, ...]

    @cached_property
    def mean(self) -> float:
        """Return the mean over the runs."""
        return float(np.mean(self.values))

    @cached_property
    def half(self) -> float | None:
        """Return half of Student's 95 % interval of the mean; None of one run, which has none."""
        n = len(self.values)
        return float(t.ppf(0.975, n - 1) * np.std(self.values, ddof=1) / np.sqrt(n)) if n > 1 else None


@dataclass(frozen=True)
class Column:
    """One number of a model: what a table and what a file call it, and where metrics hold it."""

    section: str
    name: str
    metric: str
    attack: str
    find: Callable[[Mapping[str, Any], str], float | None]
    digits: int = 3

    def of(self, runs: Iterable[Run], model: str) -> Estimate | None:
        """Return this number of one of the runs' models; None if none of them has it."""
        found = [self.find(run.metrics, model) for run in runs if run.metrics is not None]
        values = tuple(value for value in found if value is not None)
        return Estimate(values) if values else None


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seed only.

    Attributes:
        labels: their values of the keys that vary between groups.
        name: the same in a few words.
        problem: what unlearners are compared on: the labels that do not concern the unlearner, in a few words.
    """

    labels: tuple[str, ...]
    name: str
    problem: str
    runs: tuple[Run, ...]

    def gap(self, attack: str, model: str = _UNLEARNED) -> Estimate | None:
        """Return an attack's AUC on a model less that on the retrained model, seed by seed."""
        return gap(attack).of(self.runs, model)

    def seeds(self, attack: str) -> dict[str, float]:
        """Return the unlearned model's gap by seed."""
        found = {run.seed: run.metrics["gap"][_UNLEARNED]["attacks"].get(attack) for run in self.runs if run.metrics}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass(frozen=True)
class Row:
    """One model of a group; the original and the retrained one of all groups of a problem that have the same."""

    labels: tuple[str, ...]
    model: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Summary:
    """What several runs say together.

    Attributes:
        keys: the config's keys that vary, seeds apart.
        columns, rows: of the table.
        attacks: all that any run has, without their parts.
        missing: the runs without a result.
        repeats: how many runs were left out since a later one has the same config and seed.
    """

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    attacks: tuple[str, ...]
    missing: tuple[Run, ...]
    repeats: int

    def labels(self, run: Run) -> tuple[str, ...]:
        """Return a run's values of the keys that vary."""
        return tuple(_label(run, key) for key in self.keys)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at and below these paths, finished or not, begun or not, each once.

    Raises:
        ValueError: for a path that is not there, or that has no run at or below it.
    """
    found: dict[Path, None] = {}
    for path in (path.parent if path.is_file() else path for path in paths):
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder")
        runs = runs_below(path)
        if not runs:
            raise ValueError(f"{path}: no run at or below it")
        found |= dict.fromkeys(runs)
    return list(found)


def read_run(folder: Path) -> Run:
    """Return what is known of a run, whatever state its folder is in."""
    config = _read_config(folder)
    try:
        state = state_of(folder)
        if state.name != "completed":
            return Run(folder, config, None, state.name, last_line(state.error))
        if config.get("attack.shard") is not None:
            return Run(folder, config, None, SHADOWS_ONLY)
        metrics = json.loads((folder / "metrics.json").read_text())
        for model in MODELS:
            for column in _columns(_attacks([metrics])):
                column.find(metrics, model)
        finished = str((read_manifest(folder) or {})["finished"])
        return Run(folder, config, metrics, state.name, finished=finished)
    except KeyError as missing:
        return Run(folder, config, None, "other version", f"made by another version of advunlearn, without {missing}")
    except (OSError, ValueError, TypeError) as damage:
        return Run(folder, config, None, "damaged", f"{type(damage).__name__}: {last_line(str(damage))}")


def summarise(folders: Sequence[Path]) -> Summary:
    """Return the means over seeds of these runs, grouped by what else differs, and the runs without a result."""
    runs = [read_run(folder) for folder in folders]
    finished, repeats = _latest([run for run in runs if run.metrics is not None])
    # A shard is a part of what others do, no setting of its own.
    keys = _varying([run for run in runs if run.config and run.config.get("attack.shard") is None])
    by_labels: dict[tuple[str, ...], list[Run]] = {}
    for run in finished:
        by_labels.setdefault(tuple(_label(run, key) for key in keys), []).append(run)
    groups = tuple(_group(keys, labels, members) for labels, members in by_labels.items())
    attacks = _attacks([run.metrics for run in finished if run.metrics is not None])
    columns = tuple(column for column in _columns(attacks) if any(column.of(finished, model) for model in MODELS))
    missing = tuple(run for run in runs if run.metrics is None)
    return Summary(tuple(keys), columns, tuple(_rows(keys, groups)), groups, attacks, missing, repeats)


def gap(attack: str) -> Column:
    """Return the column of an attack's AUC less that on the retrained model."""

    def find(metrics: Mapping[str, Any], model: str) -> float | None:
        return None if model == _RETRAINED else metrics["gap"][model]["attacks"].get(attack)

    return Column("gap", attack, "gap", attack, find)


def accuracy(part: str) -> Column:
    """Return the column of the accuracy on a part of the data."""
    return Column("", part, f"accuracy_{part}", "", lambda metrics, model: metrics["models"][model]["accuracy"][part])


def time_over_retraining(stage: str) -> Column:
    """Return the column of the time that a stage, `unlearning` or `references`, took over that of retraining."""
    key = f"{stage}_over_retraining"

    def find(metrics: Mapping[str, Any], model: str) -> float | None:
        spent: float = metrics[key]
        # No reference models, no column of them.
        return spent if model == _UNLEARNED and (spent or stage != "references") else None

    return Column("time / retraining", "" if stage == "unlearning" else stage, key, "", find, digits=2)


def _auc(attack: str) -> Column:
    def find(metrics: Mapping[str, Any], model: str) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found["auc"]

    return Column("AUC", attack, "auc", attack, find)


def _columns(attacks: Iterable[str]) -> list[Column]:
    attacks = list(attacks)
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [*map(accuracy, PARTS), *map(_auc, attacks), *map(gap, attacks), *times]


def _attacks(found: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for metrics in found for name in metrics["gap"][_UNLEARNED]["attacks"])
    return tuple(name for name in names if "/" not in name)


def _group(keys: Sequence[str], labels: tuple[str, ...], runs: Sequence[Run]) -> Group:
    pairs = sorted(zip(keys, labels, strict=True), key=lambda pair: not pair[0].endswith(TARGET))  # classes first
    words = [(key, _words(key, label, keys)) for key, label in pairs if label]
    own = [word for key, word in words if _of_unlearner(key)]
    if not any(key.endswith(TARGET) for key, _ in words if _of_unlearner(key)):
        own.insert(0, _label(runs[0], f"unlearner.{TARGET}"))  # a name begins with a class
    problem = [word for key, word in words if not _of_unlearner(key)]
    return Group(labels, ", ".join([*own, *problem]), ", ".join(problem), tuple(runs))


def _of_unlearner(key: str) -> bool:
    return key.startswith("unlearner.")


def _words(key: str, label: str, keys: Sequence[str]) -> str:
    """Return `SVM` for a class and `alpha=3` for an option, with its full key where another's ends in the same word."""
    if key.endswith(TARGET):
        return label
    short = key.rsplit(".", 1)[-1]
    alike = sum(other.rsplit(".", 1)[-1] == short for other in keys)
    return f"{short if alike == 1 else key}={label}"


def _rows(keys: Sequence[str], groups: Sequence[Group]) -> Iterator[Row]:
    """Yield the rows of the table, problem by problem: first the models that unlearners start from and aim at."""
    for problem in dict.fromkeys(group.problem for group in groups):
        members = [group for group in groups if group.problem == problem]
        for model in (_ORIGINAL, _RETRAINED):
            shared = _shared([run for group in members for run in group.runs], model)
            if shared is None:
                yield from (Row(group.labels, model, group.runs) for group in members)
                continue
            blank = zip(keys, members[0].labels, strict=True)
            several = len(members) > 1
            labels = tuple("" if several and _of_unlearner(key) else label for key, label in blank)
            yield Row(labels, model, shared)
        yield from (Row(group.labels, _UNLEARNED, group.runs) for group in members)


def _shared(runs: Sequence[Run], model: str) -> tuple[Run, ...] | None:
    """Return one run a seed if those of the same seed have the same model, else None."""
    by_seed: dict[str, tuple[Run, Any]] = {}
    for run in runs:
        metrics = run.metrics or {}
        same = [metrics["models"][model], metrics["gap"].get(model)]
        if by_seed.setdefault(run.seed, (run, same))[1] != same:
            return None
    return tuple(run for run, _ in by_seed.values())


def _latest(finished: Sequence[Run]) -> tuple[list[Run], int]:
    """Return the runs without those that a later one of the same config and seed repeats, and how many those were."""
    by_config: dict[str, Run] = {}
    for run in sorted(finished, key=lambda run: run.finished):
        same = {key: value for key, value in run.config.items() if key not in IDLE}
        by_config[json.dumps(same, sort_keys=True)] = run
    latest = {run.folder for run in by_config.values()}
    return [run for run in finished if run.folder in latest], len(finished) - len(latest)


def _read_config(folder: Path) -> dict[str, Any]:
    for path in (folder / "config.yaml", folder / ".hydra" / "config.yaml"):
        with contextlib.suppress(OSError, ValueError, YAMLError):
            return dict(_flatten(OmegaConf.to_container(OmegaConf.load(path))))
    return {}


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _varying(runs: Sequence[Run]) -> list[str]:
    """Return the config's keys that differ between runs; of an option, between runs that use its component."""

    def differs(key: str) -> bool:
        parts = key.split(".")
        owner = parts[: -2 if parts[-1] == TARGET else -1]
        groups: dict[str, set[str]] = {}
        for run in runs:
            component = str(run.config.get(".".join([*owner, TARGET])))
            groups.setdefault(component, set()).add(str(run.config.get(key)))
        return any(len(values) > 1 for values in groups.values())

    keys = dict.fromkeys(key for run in runs for key in run.config if key not in {"seed", *IDLE})
    return [key for key in keys if differs(key)]


def _label(run: Run, key: str) -> str:
    value = str(run.config.get(key, ""))
    return value.rsplit(".", 1)[-1] if key.endswith(TARGET) else value
