"""Artefacts as folders of files, each checked by its SHA-256."""

from __future__ import annotations

import errno
import hashlib
import json
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from advunlearn.storage.files import dump_json, file_digest, sync, system_errors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

MARKER = "complete.json"
BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)  # errors that mean that the file itself is damaged


def key_digest(kind: str, key: Mapping[str, Any]) -> str:
    """Return the name of the artefact of this kind that `key`, plain data, determines."""
    canonical = json.dumps({"kind": kind, **key}, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def index_digest(rows: NDArray[np.int64]) -> str:
    """Return the SHA-256 of a set of row numbers, in any order."""
    return hashlib.sha256(np.sort(np.asarray(rows, dtype="<i8")).tobytes()).hexdigest()


@dataclass(frozen=True)
class Artefact:
    """A finished result: named tensors (safetensors), arrays (npz without pickle) and a record (JSON).

    `digest` is its name, the digest of everything that determines it. `content` is the SHA-256 of its tensors and
    arrays, whose last bits may differ between machines. Tensors from the store are on the CPU and contiguous.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]
    arrays: dict[str, NDArray[Any]]
    digest: str = ""
    content: str = ""
    reused: bool = False


class Damaged(Exception):
    """An artefact whose files differ from its marker."""


def write_artefact(folder: Path, kind: str, key: Mapping[str, Any], made: Artefact) -> dict[str, str]:
    """Write an artefact into a new folder and return the checksums of its files.

    All files are synced at the end, before the caller moves the folder to its place in the store.
    """
    with system_errors(folder):
        dump_json(folder / "key.json", {"kind": kind, **key})
        dump_json(folder / "record.json", made.record)
        if made.tensors:
            write_tensors(folder / "tensors.safetensors", made.tensors)
        if made.arrays:
            arrays: dict[str, Any] = made.arrays
            np.savez(folder / "arrays.npz", **arrays)
        files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
        marker = {"schema": 2, "kind": kind, "made": time.time(), "files": files}
        dump_json(folder / MARKER, {**marker, "checksum": key_digest("marker", marker)})
        for name in (*files, MARKER):
            sync(folder / name)
        sync(folder)
    return files


def read_artefact(folder: Path) -> Artefact:
    """Return the artefact in a folder, after a check of each file.

    Raises:
        Damaged: if a file is missing, differs from the marker, or cannot be read.
        OSError: if the system denies access.
    """
    from safetensors.torch import load_file  # torch takes seconds to import, and `store ls` reads nothing

    name = MARKER
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise Damaged("it is not a folder")
        files = read_marker(folder)["files"]
        for name, checksum in files.items():
            if file_digest(_regular(folder / name)) != checksum:
                raise Damaged(f"{name} is damaged")
        name = "record.json"
        record = _read_json(folder / name)
        tensors, arrays = {}, {}
        if (name := "tensors.safetensors") in files:
            tensors = load_file(folder / name)
        if (name := "arrays.npz") in files:
            with np.load(folder / name, allow_pickle=False) as stored:
                arrays = {array: stored[array] for array in stored.files}
    except OSError as error:
        if error.errno not in BROKEN:
            raise OSError(error.errno, error.strerror, str(folder / name)) from error
        raise Damaged(f"{name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise Damaged(f"{name} is damaged ({type(error).__name__})") from error
    return Artefact(record, tensors, arrays, folder.name.partition("-")[0], content_of(files), reused=True)


def _regular(path: Path) -> Path:
    """Return the path of a file; a `Damaged` for anything else, such as a link, or a pipe, which would never end."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Damaged(f"{path.name} is not a regular file")
    return path


def read_key(folder: Path) -> Any:
    """Return everything that determines an artefact, as plain data, with its kind."""
    return _read_json(folder / "key.json")


def _read_json(path: Path) -> Any:
    return json.loads(_regular(path).read_text(encoding="utf-8"))


def read_marker(folder: Path) -> Any:
    """Return the contents of an artefact's marker, which its own checksum protects."""
    marker = _read_json(folder / MARKER)
    checksum = marker.pop("checksum", None)
    if marker["schema"] != 1 and checksum != key_digest("marker", marker):  # the first schema had no checksum
        raise Damaged(f"{MARKER} is damaged")
    return marker


def content_of(files: Mapping[str, str]) -> str:
    """Return the identity of an artefact's tensors and arrays from the checksums of its files."""
    return "+".join(files[name] for name in ("tensors.safetensors", "arrays.npz") if name in files)
