"""The folders of runs: where they are, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from omegaconf import OmegaConf

from advunlearn.config.yaml_files import read_yaml
from advunlearn.evaluation.metrics_file import Metrics, is_audit, read_metrics
from advunlearn.options import UserError
from advunlearn.runs.state import about, config_of, last_line, read_manifest, runs_below, state_of
from advunlearn.storage.files import UnreadableFile, read_json

TARGET = "_target_"
SEARCH = "search.json"  # of a search for options, in the folder above its runs; see `search.py`
METHOD = "method"  # the key of a run's name in a comparison
# What a run's seeds are of, the outermost first: each is repeated for a value of those before it.
LEVELS = ("seed", "training", "unlearning", "audit")
SHADOWS_ONLY = "shadow models only"
AUDIT_ONLY = "an audit of one model"


class Chosen(TypedDict):
    """What counts of `search.json` to find runs: the name of the folder that was chosen, if any."""

    chosen: str | None


@dataclass(frozen=True)
class Run:
    """One run's folder and what is known of it.

    Attributes:
        config: flat; empty if it was not written. In a comparison, with the name of its method.
        metrics: None if the run has no result.
        state: `completed` for a run with metrics.
        error: why there is no result, the last line of the error; empty if nothing is known.
        finished: when it ended.
        choices: the option of each group, as it was typed.
    """

    folder: Path
    config: dict[str, Any]
    metrics: Metrics | None
    state: str
    error: str = ""
    finished: str = ""
    choices: Mapping[str, Any] = field(default_factory=dict)

    def choice(self, key: str) -> str:
        """Return the option that was chosen for the part with this `_target_`; empty if it is not known."""
        owner = key.removesuffix(f".{TARGET}")
        groups = (group for group in self.choices if not group.startswith("recipe@"))
        return str(next((self.choices[group] for group in groups if group.rpartition("@")[2] == owner), ""))

    @property
    def seeds(self) -> dict[str, str]:
        """Return the seeds as text by `LEVELS`; those that are not set apart are the run's seed."""
        given = {level: self.config.get("seed" if level == "seed" else f"seeds.{level}") for level in LEVELS}
        return {level: str(given["seed"] if value is None else value) for level, value in given.items()}

    @property
    def seed(self) -> str:
        """Return the seed as text, with those that are set apart, such as `1/training=2`; empty if it is not known."""
        if "seed" not in self.config:
            return ""
        whole, *parts = self.seeds.items()
        return "/".join([whole[1], *(f"{level}={seed}" for level, seed in parts if seed != whole[1])])


def level_of(runs: Iterable[Run]) -> str | None:
    """Return the outermost of `LEVELS` in which these runs differ: they are independent for different values only."""
    seeds = [run.seeds for run in runs]
    return next((level for level in LEVELS if len({each[level] for each in seeds}) > 1), None)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at and below these paths, finished or not, started or not, each once.

    Of a search for options, only the run that it chose, unless another one is named itself.

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
        found |= dict.fromkeys(run for run in runs if run == path or _counts(run))
    return list(found)


def _counts(run: Path) -> bool:
    """Return whether a run is not one of a search that chose another one."""
    if not (run.parent / SEARCH).is_file():
        return True
    return read_json(run.parent / SEARCH, Chosen)["chosen"] in (None, run.name)


def read_run(folder: Path) -> Run:
    """Return what is known of a run, whatever state its folder is in."""
    config, known = _read_config(folder), about(folder)
    if (method := known.get(METHOD)) is not None:
        config[METHOD] = method
    return replace(_read_run(folder, config), choices=known.get("choices", {}))


def _read_run(folder: Path, config: dict[str, Any]) -> Run:
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


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        return dict(flat(OmegaConf.to_container(read_yaml(config_of(folder)))))
    except UnreadableFile:
        return {}


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a nested config with its full key, such as `unlearner.alpha`."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
