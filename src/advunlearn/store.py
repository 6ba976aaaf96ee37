"""Artefacts by content: each in a folder named by the SHA-256 of everything that determines it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from advunlearn.folders import cache_folder

logger = logging.getLogger(__name__)

MARKER = "complete.json"
_WRITERS = 8


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; synced, it takes the final name only if nothing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def claim(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the right to make something; the system drops it with the process that holds it, however that one ends.

    Another holder is waited for or, without `wait`, left to it: then False is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            logger.info("waiting for another process that is making the same (%s)", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield True
        path.unlink(missing_ok=True)  # only once it is made: who waits on this file then finds it


def write_json(path: Path, data: Any) -> None:
    """Write plain data as JSON, whole or not at all; NaN and infinities are refused."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return _hash_stream(file)


def _hash_stream(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def index_digest(rows: NDArray[np.int64]) -> str:
    """Return the SHA-256 of a set of row numbers, whatever their order."""
    return hashlib.sha256(np.sort(np.asarray(rows, dtype="<i8")).tobytes()).hexdigest()


@dataclass(frozen=True)
class Artefact:
    """One finished thing: any of named tensors (safetensors), arrays (npz without pickle) and a record (JSON).

    `digest` is its name, by what determines it, and `content` the SHA-256 of its tensors and arrays, which another
    machine may have made with other bits. From the store the tensors come on the CPU and contiguous, whether they have
    just been made or were read.
    """

    record: dict[str, Any]
    tensors: dict[str, Tensor]
    arrays: dict[str, NDArray[Any]]
    digest: str = ""
    content: str = ""
    reused: bool = False


class Damaged(Exception):
    """An artefact whose files are not what its marker says."""


class Store:
    """Keep artefacts under `root`, made once each, checked on reading, whole or not there at all."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_folder() / "store"

    @staticmethod
    def digest(kind: str, key: Mapping[str, Any]) -> str:
        """Return the name of the artefact of this kind that `key`, plain data, determines."""
        canonical = json.dumps({"kind": kind, **key}, sort_keys=True, allow_nan=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def folder(self, digest: str) -> Path:
        """Return the folder of an artefact, there or not."""
        return self.root / digest[:2] / digest

    def checkpoints(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Return the folder for what another process needs to go on with the making of an artefact, until it is kept.

        It is there once something is written to it.
        """
        return self.root / "checkpoints" / self.digest(kind, key)

    def get_or_make(self, kind: str, key: Mapping[str, Any], make: Callable[[], Artefact]) -> Artefact:
        """Return the artefact that `key` determines, making it if it is missing or damaged.

        Of several processes that want it at once one makes it and the others wait.
        """
        digest = self.digest(kind, key)
        with contextlib.suppress(FileNotFoundError, Damaged):
            return self.read(digest)
        with claim(self.root / "claims" / digest):
            try:
                return self.read(digest)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except Damaged as damage:
                self._set_aside(digest, damage)
            return self._keep(digest, kind, key, make())

    def holds(self, kind: str, keys: Iterable[Mapping[str, Any]]) -> bool:
        """Is there an artefact for each of these keys? None is read."""
        return all(self.folder(self.digest(kind, key)).exists() for key in keys)

    def make_missing(
        self, kind: str, keys: Sequence[Mapping[str, Any]], make: Callable[[], Iterable[Artefact]]
    ) -> None:
        """Make several artefacts at once, one a key in order, if any is missing that no other process is making.

        Each is kept as soon as `make` yields it. None is read: `get_or_make` finds what is damaged, or was left to
        another process that did not finish.
        """
        digests = [self.digest(kind, key) for key in keys]
        with contextlib.ExitStack() as claims:
            ours = {
                digest
                for digest in digests
                if not self.folder(digest).exists()
                and claims.enter_context(claim(self.root / "claims" / digest, wait=False))
                and not self.folder(digest).exists()  # another process may have made it meanwhile
            }
            if not ours:
                return
            # Syncing several artefacts at the same time costs the disk hardly more than syncing one.
            with ThreadPoolExecutor(_WRITERS) as pool:
                kept = [
                    pool.submit(self._keep, digest, kind, key, made)
                    for digest, key, made in zip(digests, keys, make(), strict=True)
                    if digest in ours
                ]
            for each in kept:
                each.result()

    def _set_aside(self, digest: str, damage: Damaged) -> None:
        aside = self.root / "damaged" / f"{digest[:16]}-{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folder(digest), aside)
        logger.warning("%s in %s; set aside in %s and made again", damage, self.folder(digest), aside)

    def read(self, digest: str) -> Artefact:
        """Return a stored artefact after checking every file against its marker.

        Raises:
            FileNotFoundError: if there is no such artefact.
            Damaged: if a file of it is missing, is not the one that was written, or cannot be read.
        """
        folder = self.folder(digest)
        if not folder.is_dir():
            raise FileNotFoundError(folder)
        try:
            marker = json.loads((folder / MARKER).read_text())
            for name, checksum in marker["files"].items():
                if file_digest(folder / name) != checksum:
                    raise Damaged(f"{name} is damaged")
            record = json.loads((folder / "record.json").read_text())
            tensors = load_file(folder / "tensors.safetensors") if "tensors.safetensors" in marker["files"] else {}
            arrays = {}
            if "arrays.npz" in marker["files"]:
                with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"an unreadable artefact ({type(error).__name__})") from error
        return Artefact(record, tensors, arrays, digest, _content(marker["files"]), reused=True)

    def _keep(self, digest: str, kind: str, key: Mapping[str, Any], made: Artefact) -> Artefact:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in made.tensors.items()}
        made = replace(made, tensors=plain, digest=digest)
        folder = self.folder(digest)
        draft = self.root / "drafts" / f"{digest[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        try:
            write_json(draft / "key.json", {"kind": kind, **key})
            write_json(draft / "record.json", made.record)
            if made.tensors:
                save_file(made.tensors, draft / "tensors.safetensors")
                _sync(draft / "tensors.safetensors")
            if made.arrays:
                np.savez(draft / "arrays.npz", **made.arrays)  # type: ignore[arg-type]
                _sync(draft / "arrays.npz")
            files = {path.name: file_digest(path) for path in sorted(draft.iterdir())}
            write_json(draft / MARKER, {"schema": 1, "kind": kind, "made": time.time(), "files": files})
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, folder)
            _sync(folder.parent)
            shutil.rmtree(self.root / "checkpoints" / digest, ignore_errors=True)
            return replace(made, content=_content(files))
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def entries(self) -> Iterator[StoreEntry]:
        """Yield what is stored, one entry an artefact, without reading its contents."""
        for marker in sorted(self.root.glob(f"??/*/{MARKER}")):
            folder = marker.parent
            try:
                data = json.loads(marker.read_text())
                kind, made = str(data["kind"]), float(data["made"])
            except (OSError, ValueError, KeyError, TypeError):
                kind, made = "damaged", 0.0
            size = sum(path.stat().st_size for path in folder.iterdir())
            yield StoreEntry(folder.name, kind, made, size)

    def keys(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield what determines each stored artefact of this kind; one that cannot be read is passed over."""
        for path in sorted(self.root.glob("??/*/key.json")):
            with contextlib.suppress(OSError, ValueError):
                key = json.loads(path.read_text())
                if key["kind"] == kind:
                    yield key

    def remove(self, digest: str) -> None:
        """Delete one artefact; the marker goes first, so that a reader never takes a part for the whole."""
        folder = self.folder(digest)
        (folder / MARKER).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _content(files: Mapping[str, str]) -> str:
    return "+".join(files[name] for name in ("tensors.safetensors", "arrays.npz") if name in files)


@dataclass(frozen=True)
class StoreEntry:
    """One line of `advunlearn store ls`: digest, kind, when it was made (seconds since 1970), size in bytes."""

    digest: str
    kind: str
    made: float
    size: int
