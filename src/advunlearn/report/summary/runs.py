"""Several runs as numbers: means and 95 % intervals over seeds, grouped by what else differs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np

from advunlearn.config.part_files import LOGGER
from advunlearn.evaluation.comparison import gaps_of, primary
from advunlearn.evaluation.metrics_file import Gap, ModelMetrics
from advunlearn.evaluation.names import MODELS, ModelName
from advunlearn.options import one_line
from advunlearn.report.summary.column_sets import default_columns
from advunlearn.report.summary.columns import RATE, Column, Estimate, gap
from advunlearn.report.summary.folders import LEVELS, METHOD, TARGET, Run, level_of, read_run
from advunlearn.runtime.settings import NUMERIC, Settings

IDLE = {field.name for field in fields(Settings)} - set(NUMERIC)  # settings that change no number
SEEDS = {f"seeds.{level}" for level in LEVELS}
_ORIGINAL: Final = "original"
_UNLEARNED: Final = "unlearned"


def is_idle(key: str) -> bool:
    """Return whether an option changes no number of a run."""
    return key in IDLE or key.partition(".")[0] == LOGGER


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in their seeds only.

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

    def gaps(self, attack: str) -> list[tuple[Run, float]]:
        """Return the runs that have this attack, each with the unlearned model's gap."""
        found = [(run, gaps_of(run.metrics["gap"][_UNLEARNED]).get(attack)) for run in self.runs if run.metrics]
        return [(run, value) for run, value in found if value is not None]

    def sizes(self, attack: str, level: str | None = None) -> dict[str, float]:
        """Return the mean size of the unlearned model's gap by seed: of a level, or of the outermost that varies."""
        level = level or level_of(self.runs) or LEVELS[0]
        found: dict[str, list[float]] = {}
        for run, value in self.gaps(attack):
            found.setdefault(run.seeds[level], []).append(abs(value))
        return {seed: float(np.mean(values)) for seed, values in found.items()}

    def size(self, attack: str) -> Estimate | None:
        """Return the size of the unlearned model's gap, seed by seed; None if no run has this attack."""
        found = tuple(self.sizes(attack).values())
        return Estimate(found, bounds=RATE) if found else None

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
        selected: whether the user chose what is shown: constant columns are then left out.
        best: whether the best number of each column is marked.
    """

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    groups: tuple[Group, ...]
    attacks: tuple[str, ...]
    missing: tuple[Run, ...]
    repeats: int
    selected: bool = False
    best: bool = False

    @property
    def by_method(self) -> bool:
        """Return whether this is a comparison: each group is one method."""
        return self.keys == (METHOD,)

    def labels(self, run: Run) -> tuple[str, ...]:
        """Return a run's values of the keys that vary."""
        return tuple(_label(run, key) for key in self.keys)


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
    wanted = default_columns(finished, attacks, methods=named)
    columns = tuple(column for column in wanted if any(column.of(finished, model) for model in MODELS))
    missing = tuple(run for run in runs if run.metrics is None)
    return Summary(tuple(keys), columns, tuple(_rows(keys, groups)), groups, attacks, missing, repeats)


def attacks_of(runs: Iterable[Run]) -> tuple[str, ...]:
    """Return what any of these runs is judged by, without variants of attacks; see `gaps_of`."""
    return tuple(primary(name for run in runs if run.metrics for name in gaps_of(run.metrics["gap"][_UNLEARNED])))


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
        for model in (_ORIGINAL, "retrained"):
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
    """Return one run a training and audit if those of the same seeds have the same model, else None."""
    by_seed: dict[tuple[str, ...], tuple[Run, tuple[ModelMetrics, Gap | None]]] = {}
    for run in runs:
        if run.metrics is None:
            continue
        same = run.metrics["models"][model], run.metrics["gap"][model] if model == _ORIGINAL else None
        seeds = tuple(seed for level, seed in run.seeds.items() if level != "unlearning")
        if by_seed.setdefault(seeds, (run, same))[1] != same:
            return None
    return tuple(run for run, _ in by_seed.values())


def _latest(finished: Sequence[Run]) -> tuple[list[Run], int]:
    """Return the runs without those that a later one of the same config and seed repeats, and how many those were."""
    by_config: dict[str, Run] = {}
    for run in sorted(finished, key=lambda run: run.finished):
        same = {key: value for key, value in run.config.items() if not is_idle(key)}
        by_config[json.dumps(same, sort_keys=True)] = run
    latest = {run.folder for run in by_config.values()}
    return [run for run in finished if run.folder in latest], len(finished) - len(latest)


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

    keys = dict.fromkeys(key for run in runs for key in run.config if key not in {"seed", *SEEDS} and not is_idle(key))
    return [key for key in keys if differs(key)]


def _label(run: Run, key: str) -> str:
    value = one_line(str(run.config.get(key, "")))
    return one_line(_typed(value, run.choice(key))) if key.endswith(TARGET) else value


def _typed(target: str, choice: str) -> str:
    """Return the name by which a class is chosen: that of its YAML or its Python file, if the class has it as well.

    Otherwise, as where an option named the class, return the name of the class.
    """
    module, _, name = target.rpartition(".")
    known = (choice, module.rpartition(".")[2].rstrip("_"))
    plain = name.replace("_", "").lower()
    return next((each for each in known if each.replace("_", "").lower() == plain), name)
