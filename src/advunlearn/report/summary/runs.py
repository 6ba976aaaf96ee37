"""Several runs as numbers: means and 95 % intervals over seeds, grouped by what else differs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import t

from advunlearn.config.yaml_files import read_yaml
from advunlearn.evaluation.comparison import average_gap, primary, tug_of_war
from advunlearn.evaluation.metrics_file import (
    MODELS,
    Gap,
    Metrics,
    ModelMetrics,
    ModelName,
    PartName,
    is_audit,
    read_metrics,
)
from advunlearn.options import UserError, one_line
from advunlearn.runs.state import about, config_of, last_line, read_manifest, runs_below, state_of
from advunlearn.runtime.settings import Settings
from advunlearn.storage.files import UnreadableFile

TARGET = "_target_"
SHOWN_PARTS: tuple[PartName, ...] = ("test", "forget", "retain")
METHOD = "method"  # the key of a run's name in a comparison
SHADOWS_ONLY = "shadow models only"
AUDIT_ONLY = "an audit of one model"
# Settings that change no number.
# `deterministic` changes results on CUDA alone.
IDLE = {field.name for field in fields(Settings)} - {"deterministic", *Settings().identity()}
_ORIGINAL: Final = "original"
_RETRAINED: Final = "retrained"
_UNLEARNED: Final = "unlearned"


@dataclass(frozen=True)
class Run:
    """One run's folder and what is known of it.

    Attributes:
        config: flat; empty if it was not written. In a comparison, with the name of its method.
        metrics: None if the run has no result.
        state: `completed` for a run with metrics.
        error: why there is no result, the last line of the error; empty if nothing is known.
        finished: when it ended.
    """

    folder: Path
    config: dict[str, Any]
    metrics: Metrics | None
    state: str
    error: str = ""
    finished: str = ""

    @property
    def seed(self) -> str:
        """Return the seed as text, empty if it is not known."""
        return str(self.config.get("seed", ""))


@dataclass(frozen=True)
class Estimate:
    """One number, with a value for each of several runs: its mean and interval."""

    values: tuple[float, ...]

    @cached_property
    def mean(self) -> float:
        """Return the mean over the runs."""
        return float(np.mean(self.values))

    @cached_property
    def half(self) -> float | None:
        """Return half of Student's 95 % interval of the mean; None for a single run."""
        n = len(self.values)
        return float(t.ppf(0.975, n - 1) * np.std(self.values, ddof=1) / np.sqrt(n)) if n > 1 else None


@dataclass(frozen=True)
class Column:
    """One number of a model: its names in a table and in a file, and how it is found in metrics."""

    section: str
    name: str
    metric: str
    attack: str
    find: Callable[[Metrics, ModelName], float | None]
    digits: int = 3

    def of(self, runs: Iterable[Run], model: ModelName) -> Estimate | None:
        """Return this number of one of the runs' models; None if none of them has it."""
        found = [self.find(run.metrics, model) for run in runs if run.metrics is not None]
        values = tuple(value for value in found if value is not None)
        return Estimate(values) if values else None


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seed only.

    Attributes:
        labels: their values of the keys that vary between groups.
        name: the same in short.
        setting: what unlearners are compared on: the labels that do not concern the unlearner, in a few words.
    """

    labels: tuple[str, ...]
    name: str
    setting: str
    runs: tuple[Run, ...]

    def gap(self, attack: str, model: ModelName = _UNLEARNED) -> Estimate | None:
        """Return an attack's AUC on a model less that on the retrained model, seed by seed."""
        return gap(attack).of(self.runs, model)

    def seeds(self, attack: str) -> dict[str, list[float]]:
        """Return the unlearned model's gaps by seed; one for each, unless several runs differ in nothing shown."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            value = run.metrics["gap"][_UNLEARNED]["attacks"].get(attack) if run.metrics else None
            if value is not None:
                found.setdefault(run.seed, []).append(value)
        return found

    def sizes(self, attack: str) -> dict[str, float]:
        """Return the mean size of the unlearned model's gap by seed."""
        return {seed: float(np.mean(np.abs(values))) for seed, values in self.seeds(attack).items()}

    def size(self, attack: str) -> Estimate | None:
        """Return the size of the unlearned model's gap, seed by seed; None if no run has this attack."""
        found = tuple(self.sizes(attack).values())
        return Estimate(found) if found else None

    def widest(self, attacks: Iterable[str]) -> str:
        """Return which of these attacks finds the largest mean gap."""
        return max(attacks, key=lambda attack: size.mean if (size := self.size(attack)) else -math.inf)

    def distance(self, attacks: Sequence[str]) -> float:
        """Return the largest mean gap of these attacks: a method can mislead one attack and not another."""
        size = self.size(self.widest(attacks)) if attacks else None
        return math.inf if size is None else size.mean


@dataclass(frozen=True)
class ModelRow:
    """One model of a group; the original and the retrained one of all groups of a setting that share it."""

    labels: tuple[str, ...]
    model: ModelName
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Summary:
    """Several runs in one table.

    Attributes:
        keys: the config's keys that vary, seeds apart.
        columns, rows: of the table.
        attacks: all that any run has, without their parts.
        missing: the runs without a result.
        repeats: how many runs were left out because a later one has the same config and seed.
    """

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    groups: tuple[Group, ...]
    attacks: tuple[str, ...]
    missing: tuple[Run, ...]
    repeats: int

    @property
    def by_method(self) -> bool:
        """Return whether this is a comparison: each group is one method."""
        return self.keys == (METHOD,)

    def labels(self, run: Run) -> tuple[str, ...]:
        """Return a run's values of the keys that vary."""
        return tuple(_label(run, key) for key in self.keys)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at and below these paths, finished or not, started or not, each once.

    Raises:
        ValueError: for a path that does not exist, or that has no run at or below it.
    """
    found: dict[Path, None] = {}
    for path in (path.parent if path.is_file() else path for path in paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        runs = runs_below(path)
        if not runs:
            raise UserError(f"{path}: no run at or below it")
        found |= dict.fromkeys(runs)
    return list(found)


def read_run(folder: Path) -> Run:
    """Return what is known of a run, whatever state its folder is in."""
    config = _read_config(folder)
    if (method := about(folder).get(METHOD)) is not None:
        config[METHOD] = method
    try:
        state = state_of(folder)
        if state.name != "completed":
            return Run(folder, config, None, state.name, last_line(state.error))
        if config.get("attack.shard") is not None:
            return Run(folder, config, None, SHADOWS_ONLY)
        if is_audit(folder):
            return Run(folder, config, None, AUDIT_ONLY)
        metrics = read_metrics(folder)
        finished = str((read_manifest(folder) or {})["finished"])
        return Run(folder, config, metrics, state.name, finished=finished)
    except UnreadableFile as error:
        return Run(folder, config, None, "other version" if error.other_version else "damaged", error.reason)
    except KeyError as missing:
        return Run(folder, config, None, "other version", f"made by another version of advunlearn, without {missing}")
    except (OSError, ValueError, TypeError) as damage:
        return Run(folder, config, None, "damaged", f"{type(damage).__name__}: {last_line(str(damage))}")


def summarise(folders: Sequence[Path]) -> Summary:
    """Return the means over seeds of these runs, grouped by what else differs, and the runs without a result."""
    runs = [read_run(folder) for folder in folders]
    finished, repeats = _latest([run for run in runs if run.metrics is not None])
    # A shard trains models for the other runs; it is not a setting of its own.
    named = all(METHOD in run.config for run in runs)
    keys = (
        [METHOD] if named else _varying([run for run in runs if run.config and run.config.get("attack.shard") is None])
    )
    by_labels: dict[tuple[str, ...], list[Run]] = {}
    for run in finished:
        by_labels.setdefault(tuple(_label(run, key) for key in keys), []).append(run)
    groups = tuple(_group(keys, labels, members) for labels, members in by_labels.items())
    attacks = attacks_of(finished)
    if named:
        groups = tuple(sorted(groups, key=lambda group: group.distance(attacks)))
    wanted = _method_columns(attacks) if named else _columns(attacks)
    columns = tuple(column for column in wanted if any(column.of(finished, model) for model in MODELS))
    missing = tuple(run for run in runs if run.metrics is None)
    return Summary(tuple(keys), columns, tuple(_rows(keys, groups)), groups, attacks, missing, repeats)


def attacks_of(runs: Iterable[Run]) -> tuple[str, ...]:
    """Return the attacks that any of these runs has, without their variants."""
    return tuple(primary(name for run in runs if run.metrics for name in run.metrics["gap"][_UNLEARNED]["attacks"]))


def gap(attack: str) -> Column:
    """Return the column of an attack's AUC less that on the retrained model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else metrics["gap"][model]["attacks"].get(attack)

    return Column("gap", attack, "gap", attack, find)


def accuracy(part: PartName) -> Column:
    """Return the column of the accuracy on a part of the data."""
    return Column("", part, f"accuracy_{part}", "", lambda metrics, model: metrics["models"][model]["accuracy"][part])


def time_over_retraining(stage: Literal["unlearning", "references"]) -> Column:
    """Return the column of the time that unlearning or its reference models took over that of retraining."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        if model != _UNLEARNED:
            return None
        if stage == "unlearning":
            return metrics["unlearning_over_retraining"]
        return metrics["references_over_retraining"] or None  # no reference models, no column of them

    name = "" if stage == "unlearning" else stage
    return Column("time / retraining", name, f"{stage}_over_retraining", "", find, digits=2)


def _auc(attack: str) -> Column:
    def find(metrics: Metrics, model: ModelName) -> float | None:
        found = metrics["models"][model]["attacks"].get(attack)
        return None if found is None else found["auc"]

    return Column("AUC", attack, "auc", attack, find)


def _columns(attacks: Iterable[str]) -> list[Column]:
    attacks = list(attacks)
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [*map(accuracy, SHOWN_PARTS), *map(_auc, attacks), *map(gap, attacks), *times]


def _method_columns(attacks: Iterable[str]) -> list[Column]:
    times = [time_over_retraining("unlearning"), time_over_retraining("references")]
    return [
        *map(accuracy, SHOWN_PARTS),
        *map(gap, attacks),
        _of_gap("average gap", average_gap),
        _of_gap("ToW", tug_of_war),
        _of_gap("ToW-MIA", lambda found: tug_of_war(found, attacks=True)),
        *times,
    ]


def _of_gap(name: str, measure: Callable[[Gap], float]) -> Column:
    """Return the column of one number that is made of all gaps of a model."""

    def find(metrics: Metrics, model: ModelName) -> float | None:
        return None if model == _RETRAINED else measure(metrics["gap"][model])

    return Column("overall", name, name, "", find)


def _group(keys: Sequence[str], labels: tuple[str, ...], runs: Sequence[Run]) -> Group:
    pairs = sorted(zip(keys, labels, strict=True), key=lambda pair: not pair[0].endswith(TARGET))  # classes first
    words = [(key, _words(key, label, keys)) for key, label in pairs if label]
    own = [word for key, word in words if _of_unlearner(key)]
    if METHOD not in keys and not any(key.endswith(TARGET) for key, _ in words if _of_unlearner(key)):
        own.insert(0, _label(runs[0], f"unlearner.{TARGET}"))  # a name begins with a class
    setting = [word for key, word in words if not _of_unlearner(key)]
    return Group(labels, ", ".join([*own, *setting]), ", ".join(setting), tuple(runs))


def _of_unlearner(key: str) -> bool:
    return key.startswith("unlearner.") or key == METHOD


def _words(key: str, label: str, keys: Sequence[str]) -> str:
    """Return `SVM` for a class and `alpha=3` for an option, with its full key where another's ends in the same word."""
    if key.endswith(TARGET) or key == METHOD:
        return label
    short = key.rsplit(".", 1)[-1]
    alike = sum(other.rsplit(".", 1)[-1] == short for other in keys)
    return f"{short if alike == 1 else key}={label}"


def _rows(keys: Sequence[str], groups: Sequence[Group]) -> Iterator[ModelRow]:
    """Yield the rows of the table, setting by setting: first the models that unlearners start from and aim at."""
    for setting in dict.fromkeys(group.setting for group in groups):
        members = [group for group in groups if group.setting == setting]
        for model in (_ORIGINAL, _RETRAINED):
            shared = _shared([run for group in members for run in group.runs], model)
            if shared is None:
                yield from (ModelRow(group.labels, model, group.runs) for group in members)
                continue
            blank = zip(keys, members[0].labels, strict=True)
            several = len(members) > 1
            labels = tuple("" if several and _of_unlearner(key) else label for key, label in blank)
            yield ModelRow(labels, model, shared)
        yield from (ModelRow(group.labels, _UNLEARNED, group.runs) for group in members)


def _shared(runs: Sequence[Run], model: ModelName) -> tuple[Run, ...] | None:
    """Return one run a seed if those of the same seed have the same model, else None."""
    by_seed: dict[str, tuple[Run, tuple[ModelMetrics, Gap | None]]] = {}
    for run in runs:
        if run.metrics is None:
            continue
        same = run.metrics["models"][model], run.metrics["gap"][model] if model == _ORIGINAL else None
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
    try:
        return dict(_flatten(OmegaConf.to_container(read_yaml(config_of(folder)))))
    except UnreadableFile:
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
    value = one_line(str(run.config.get(key, "")))
    return value.rsplit(".", 1)[-1] if key.endswith(TARGET) else value
