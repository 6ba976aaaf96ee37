"""Checkpoints: the state of a training in one file, from which another process resumes, to the same bits.

They also store the seconds spent, so that an interrupted training reports the time of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from advunlearn.runtime.signals import is_asked
from advunlearn.storage.files import atomic_write, file_digest, write_tensors
from advunlearn.storage.folders import names_in, refuse_link

logger = logging.getLogger(__name__)

_NAME = r"[0-9a-f]{64}\.safetensors"  # of a state: nothing else in the folder is read or deleted


class Checkpoint:
    """The latest state of one training in `folder`, written every so many seconds and when the process is to end.

    The file is named by its SHA-256 and holds the key of the training. A file that is damaged or of another training is
    reported in the log and not used.

    Args:
        folder: created when needed; never a symbolic link.
        seconds: between two states.
        key: identifies the training.
        whole: the checkpoint of which this one is a part.
    """

    def __init__(self, folder: Path, seconds: float, key: str = "", whole: Checkpoint | None = None) -> None:
        self.folder = folder
        self.seconds = seconds
        self.key = key
        self.whole = whole
        self.begin()

    def begin(self) -> None:
        """Count the time from now on."""
        self.begun = self.written = time.perf_counter()
        self.saved = 0.0  # seconds that earlier processes spent and this one did not have to spend again

    def spent(self) -> float:
        """Return the seconds since `begin`, with those that earlier processes spent up to the states that were read."""
        return self.saved + time.perf_counter() - self.begun

    def part(self, name: str) -> Checkpoint:
        """Return a separate checkpoint for one of several trainings that make one artefact.

        Its time is also counted for the whole.
        """
        return Checkpoint(self.folder / name, self.seconds, f"{self.key}/{name}", self)

    def step(self, state: Callable[[], Any]) -> None:
        """Write the state, plain data and tensors, if `seconds` have passed; to be called after every step."""
        if is_asked() or time.perf_counter() - self.written >= self.seconds:
            self.write(state())

    def write(self, state: Any) -> None:
        """Write the state, and delete the previous one."""
        tensors: dict[str, Tensor] = {}
        about = {"state": json.dumps(_pack(state, tensors)), "spent": repr(self.spent()), "key": self.key}
        before = self._files()
        draft = self.folder / f"draft-{os.getpid()}"
        with atomic_write(draft) as temporary:
            write_tensors(temporary, tensors, about)
        final = self.folder / f"{file_digest(draft)}.safetensors"  # which is known only now
        draft.replace(final)
        for path in before:
            if path != final:
                path.unlink(missing_ok=True)
        self.written = time.perf_counter()

    def read(self) -> Any:
        """Return the latest complete state, or None; its time is added to the time spent here."""
        for path in self._files():
            try:
                state, spent = self._read(path)
            except FileNotFoundError:
                continue  # another process does the same training, and wrote a later one
            except (SafetensorError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is damaged or foreign; this checkpoint is not used (%s)", path, error)
            else:
                self._save(spent - self.spent())
                return state
        return None

    def _files(self) -> list[Path]:
        """Return the states in the folder, the latest first."""
        self._refuse_links()
        times = {}
        for name in names_in(self.folder, _NAME):
            with contextlib.suppress(FileNotFoundError):
                times[self.folder / name] = (self.folder / name).lstat().st_mtime
        return sorted(times, key=times.__getitem__, reverse=True)

    def _refuse_links(self) -> None:
        refuse_link(self.folder)
        if self.whole is not None:
            self.whole._refuse_links()

    def _read(self, path: Path) -> tuple[Any, float]:
        """Return the state in a file and the seconds that were spent on it; a ValueError if it must not be used."""
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("not a regular file")
        if file_digest(path) != path.stem:
            raise ValueError("not the checksum of its name")
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            about = file.metadata() or {}
        if about.get("key") != self.key:
            raise ValueError("of another training, or of an older version")
        return _unpack(json.loads(about["state"]), tensors), float(about["spent"])

    def _save(self, seconds: float) -> None:
        self.saved += seconds
        if self.whole is not None:
            self.whole._save(seconds)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value as JSON data; its tensors are moved into `tensors`, under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()  # clones: shared storage cannot be saved
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _pack(each, tensors)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(each, tensors) for each in value]
    return value


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpack(each, tensors) for key, each in value["items"]}


def state_of(part: Any) -> Any:
    """Return the state of a generator, a tensor, or an object with a `state_dict`."""
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part if isinstance(part, Tensor) else part.state_dict()


def restore(part: Any, state: Any) -> None:
    """Restore a part, in place, to a state that `state_of` returned."""
    if isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, Tensor):
        with torch.no_grad():
            part.copy_(state)
    else:
        part.load_state_dict(state)
    if isinstance(part, torch.optim.Optimizer):
        _align(part)


def _align(optimizer: torch.optim.Optimizer) -> None:
    """Set the optimizer's tensors to the memory layout of their weights; fused steps require it without a check."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                state[name] = torch.empty_like(weight, memory_format=torch.preserve_format).copy_(value)
