"""Several runs in one table: means and 95 % intervals over seeds, grouped by what else differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import t

TARGET = "_target_"
PARTS = ("test", "forget", "retain")


@dataclass(frozen=True)
class Run:
    """One run's folder: its flat config, metrics (None if it has not finished), state in words and time of its end."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any] | None
    state: str
    finished: str


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at and below these paths, finished or not, each once.

    Raises:
        ValueError: for a path that is not there, or that has no run at or below it.
    """
    found: dict[Path, None] = {}
    for path in (path.parent if path.is_file() else path for path in paths):
        if not path.is_dir():
            raise ValueError(f"{path}: no such folder")
        runs = sorted(manifest.parent for manifest in path.rglob("manifest.json"))
        if not runs:
            raise ValueError(f"{path}: no run at or below it")
        found |= dict.fromkeys(runs)
    return list(found)


def summarise(folders: Sequence[Path], style: str = "text") -> str:
    """Return lines for each group of runs that differ in their seed only; runs without results are listed as well.

    A gap is an attack's AUC less that on the retrained model, seed by seed.

    Args:
        folders: of the runs.
        style: `text` for a terminal or `markdown`.
    """
    runs = [_read(folder) for folder in folders]
    runs = [run for run in runs if run.config.get("attack.shard") is None] or runs  # a shard has nothing to report
    varying = _varying(runs)
    groups: dict[tuple[str, ...], list[Run]] = {}
    latest, repeats = _latest(runs)
    for run in latest:
        groups.setdefault(tuple(_label(run, key) for key in varying), []).append(run)
    finished = [run.metrics for run in latest if run.metrics is not None]
    attacks = list(dict.fromkeys(name for metrics in finished for name in metrics["gap"]["unlearned"]["attacks"]))
    attacks = [name for name in attacks if "/" not in name]
    head = [
        *(key.removesuffix(f".{TARGET}") for key in varying),
        *("runs", "model", *PARTS),
        *(f"AUC {name}" for name in attacks),
        *(f"gap {name}" for name in attacks),
        "time / retraining",
    ]
    table = []
    for labels, members in groups.items():
        done = [run.metrics for run in members if run.metrics is not None]
        for model in ("original", "retrained", "unlearned") if done else ():
            table.append([*labels, str(len(done)), model, *_cells(done, model, attacks)])
    table = [head, *_shared(table, len(varying))]
    missing = [f"no result: {run.folder} ({run.state})" for run in runs if run.metrics is None]
    missing += [f"{repeats} repeats of a seed left out: the same numbers again"] if repeats else []
    body = _markdown(table) if style == "markdown" else _text(table)
    legend = ["mean ± half of the 95 % interval over seeds"] if any("±" in line for line in body) else []
    return "\n".join([*body, *legend, *missing])


def _cells(done: Sequence[dict[str, Any]], model: str, attacks: Sequence[str]) -> list[str]:
    """Return what the runs of one group say of one of their models."""
    found = [metrics["models"][model] for metrics in done]
    cells = [_mean([each["accuracy"][part] for each in found]) for part in PARTS]
    cells += [_mean([each["attacks"][name]["auc"] for each in found if name in each["attacks"]]) for name in attacks]
    gaps = [metrics["gap"].get(model, {"attacks": {}})["attacks"] for metrics in done]
    cells += [_mean([gap[name] for gap in gaps if name in gap]) for name in attacks]
    ratios = [metrics["unlearning_over_retraining"] for metrics in done]
    shared = np.median([metrics["references_over_retraining"] for metrics in done])
    cost = f"{np.median(ratios):.2f}" + (f" + {shared:.1f} shared" if shared else "")
    return [*cells, cost if model == "unlearned" else ""]


def _shared(table: Sequence[list[str]], labels: int) -> list[list[str]]:
    """Return the table with the original and the retrained model once, on top, if they are the same in all groups."""
    others = [row for row in table if row[labels + 1] == "unlearned"]
    distinct = {tuple(row[labels:]) for row in table if row not in others}
    if len(others) < 2 or len(distinct) != 2:
        return list(table)
    return [*([""] * labels + list(row) for row in sorted(distinct, key=lambda row: row[1])), *others]


def _latest(runs: Sequence[Run]) -> tuple[list[Run], int]:
    """Return the runs without those that a later one of the same config and seed repeats, and how many those were."""
    by_config: dict[str, Run] = {}
    unfinished = [run for run in runs if run.metrics is None]
    finished = sorted((run for run in runs if run.metrics is not None), key=lambda run: run.finished)
    for run in finished:
        by_config[json.dumps(run.config, sort_keys=True)] = run
    return [*by_config.values(), *unfinished], len(finished) - len(by_config)


def _read(folder: Path) -> Run:
    manifest = json.loads((folder / "manifest.json").read_text())
    config, metrics = folder / "config.yaml", folder / "metrics.json"
    flat = dict(_flatten(OmegaConf.to_container(OmegaConf.load(config)))) if config.is_file() else {}
    finished = manifest["status"] == "completed" and metrics.is_file()
    state = manifest["status"] + (f": {manifest['error']}" if manifest["error"] else "")
    found = json.loads(metrics.read_text()) if finished else None
    return Run(folder, flat, found, state, str(manifest.get("finished")))


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

    keys = dict.fromkeys(key for run in runs for key in run.config if key != "seed")
    return [key for key in keys if differs(key)]


def _label(run: Run, key: str) -> str:
    value = str(run.config.get(key, ""))
    return value.rsplit(".", 1)[-1] if key.endswith(TARGET) else value


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"


def _text(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return [lines[0], "|" + "---|" * len(table[0]), *lines[1:], ""]
