"""The original of a run where it is given: a file of weights, or the unlearned model of an earlier run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from advunlearn.config.yaml_files import read_yaml
from advunlearn.data.dataset import Dataset
from advunlearn.options import Component, UserError
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.storage.files import file_digest
from advunlearn.training.weights_file import weights_digest

UNLEARNED = "unlearned.safetensors"
SPLITS = "splits.npz"


@dataclass
class Original(Component):
    """The original of a run; by default it is trained.

    Attributes:
        path: a file of trained weights: safetensors, or a `state_dict` that torch saved.
        run: the folder of an earlier run: its unlearned model is the original of the next request to forget.
    """

    path: str | None = None
    run: str | None = None

    def conflicts(self) -> list[str]:
        """Return a line if both are given."""
        both = self.path is not None and self.run is not None
        return [f"path and run exclude each other, got {self.path} and {self.run}"] if both else []

    @property
    def folder(self) -> Path | None:
        """Return the folder of the earlier run."""
        return None if self.run is None else Path(self.run).expanduser()

    @property
    def file(self) -> Path | None:
        """Return the file of weights."""
        if self.folder is not None:
            return self.folder / UNLEARNED
        return None if self.path is None else Path(self.path).expanduser()


def given_problems(file: Path | None, original: Original, config: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each reason why weights or an earlier run cannot be used, before any data is read.

    Args:
        file: of the original's weights.
        original: the options.
        config: of this run, as plain data.
    """
    folder = original.folder
    if folder is not None:
        found = list(_run_problems(folder, config))
        yield from (f"original.run={original.run}: {problem}" for problem in found)
        if found:
            return
    if file is not None:
        try:
            weights_digest(file)
        except UserError as error:
            key = f"original.path={original.path}: " if original.path is not None else ""
            yield key + str(error).removeprefix(f"{file}: " if key else "")


def _run_problems(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    state = state_of(folder)
    if not folder.is_dir() or state.name != "completed":
        yield f"must be the folder of a completed run, and is {state}" if folder.is_dir() else "no such folder"
        return
    try:
        checksums = (read_manifest(folder) or {})["checksums"]
        damaged = [name for name in (UNLEARNED, SPLITS) if file_digest(folder / name) != checksums.get(name)]
        before: Any = OmegaConf.to_container(read_yaml(folder / "config.yaml"), resolve=True)
    except (OSError, KeyError, UserError) as error:
        yield f"its files cannot be read ({error})"
        return
    if damaged:
        yield f"{damaged[0]} has changed since the run"
    yield from _differences(before, config)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield what must be as in the earlier run and is not: the seed, the splits and the inputs, and the network."""
    for field in dataclasses.fields(Dataset):
        old, new = (config["dataset"].get(field.name, field.default) for config in (before, now))
        if old != new:
            yield _must_stay(f"dataset.{field.name}", old, new)
    for name in sorted({*before["model"], *now["model"]}):
        old, new = (config["model"].get(name) for config in (before, now))
        if old != new:
            yield _must_stay(f"model.{name}", old, new)
    if before["seed"] != now["seed"]:
        yield _must_stay("seed", before["seed"], now["seed"])


def _must_stay(key: str, old: Any, new: Any) -> str:
    old, new = ("null" if value is None else value for value in (old, new))
    return f"it was made with {key}={old}, got {new} (try {key}={old})"
