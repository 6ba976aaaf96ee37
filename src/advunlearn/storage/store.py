"""Artefacts by content: each in a folder named by the SHA-256 of everything that determines it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from advunlearn.storage.files import file_digest, sync, system_errors, write_json
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MARKER = "complete.json"
_WRITERS = 8
BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)  # what a file that cannot be read says of the file


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
        return self.get_one(kind, [key], 0, lambda: [make()])

    def get_one(
        self, kind: str, keys: Sequence[Mapping[str, Any]], index: int, make: Callable[[], Iterable[Artefact]]
    ) -> Artefact:
        """Return one of several artefacts that are made at once, with all that are missing if it is, or is damaged.

        Args:
            kind: of all of them.
            keys: of all of them, always in the same order.
            index: of the one that is wanted.
            make: yields all, in the order of the keys; each is kept at once.
        """
        digest = self.digest(kind, keys[index])
        with contextlib.suppress(FileNotFoundError, Damaged):
            return self._use(digest)
        digests = [self.digest(kind, key) for key in keys]
        with self._claim(digests):
            try:
                return self._use(digest)  # another process may have made it meanwhile
            except FileNotFoundError:
                pass
            except Damaged as damage:
                self._set_aside(digest, damage)
            return self._make(kind, keys, digests, make).get(digest) or self._use(digest)

    def holds(self, kind: str, keys: Iterable[Mapping[str, Any]]) -> bool:
        """Is there an artefact for each of these keys? None is read."""
        return all(self.folder(self.digest(kind, key)).exists() for key in keys)

    def find(self, kind: str, key: Mapping[str, Any]) -> Artefact | None:
        """Return the artefact that `key` determines if it is stored and whole; nothing is changed."""
        with contextlib.suppress(FileNotFoundError, Damaged):
            return self.read(self.digest(kind, key))
        return None

    def make_missing(
        self, kind: str, keys: Sequence[Mapping[str, Any]], make: Callable[[], Iterable[Artefact]]
    ) -> None:
        """Make several artefacts at once if one is missing, unless another process is making them; see `get_one`.

        None is read: `get_one` finds what is damaged, or was left to another process that did not finish.
        """
        digests = [self.digest(kind, key) for key in keys]
        if not all(self.folder(digest).exists() for digest in digests):
            with self._claim(digests, wait=False) as ours:
                if ours:
                    self._make(kind, keys, digests, make)

    def _claim(self, digests: Sequence[str], *, wait: bool = True) -> AbstractContextManager[bool]:
        return claim(self.root / "claims" / digests[0], wait=wait)  # one for all that are made at once

    def _make(
        self,
        kind: str,
        keys: Sequence[Mapping[str, Any]],
        digests: Sequence[str],
        make: Callable[[], Iterable[Artefact]],
    ) -> dict[str, Artefact]:
        """Make what is missing, which this process has claimed, and return it by name."""
        missing = {digest for digest in digests if not self.folder(digest).exists()}
        if not missing:
            return {}
        # Syncing several artefacts at the same time costs the disk hardly more than syncing one.
        with ThreadPoolExecutor(_WRITERS) as pool:
            kept = {
                digest: pool.submit(self._keep, digest, kind, key, made)
                for digest, key, made in zip(digests, keys, make(), strict=True)
                if digest in missing
            }
        return {digest: each.result() for digest, each in kept.items()}

    def _set_aside(self, digest: str, damage: Damaged) -> None:
        aside = self.root / "damaged" / f"{digest[:16]}-{secrets.token_hex(4)}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            os.replace(self.folder(digest), aside)
        logger.warning("%s in %s; set aside in %s and made again", damage, self.folder(digest), aside)

    def _use(self, digest: str) -> Artefact:
        """Return a stored artefact as `read` does, and note the time for `advunlearn store prune`."""
        artefact = self.read(digest)
        with contextlib.suppress(OSError):  # another's, or a store that may only be read
            os.utime(self.folder(digest) / MARKER)
        return artefact

    def read(self, digest: str) -> Artefact:
        """Return a stored artefact after checking every file against its marker.

        Raises:
            FileNotFoundError: if there is no such artefact.
            Damaged: if a file of it is missing, is not the one that was written, or cannot be read.
            OSError: if the system does not let it be read, which says nothing of the artefact.
        """
        from safetensors.torch import load_file  # torch takes seconds to import, and `store ls` reads nothing

        folder = self.folder(digest)
        if not folder.exists():
            raise FileNotFoundError(folder)
        name = MARKER
        try:
            files = _marker(folder)["files"]
            for name, checksum in files.items():
                if file_digest(folder / name) != checksum:
                    raise Damaged(f"{name} is damaged")
            name = "record.json"
            record = json.loads((folder / name).read_text(encoding="utf-8"))
            tensors, arrays = {}, {}
            if (name := "tensors.safetensors") in files:
                tensors = load_file(folder / name)
            if (name := "arrays.npz") in files:
                with np.load(folder / name, allow_pickle=False) as stored:
                    arrays = {array: stored[array] for array in stored.files}
        except OSError as error:
            if not folder.exists():
                raise FileNotFoundError(folder) from error  # deleted meanwhile
            if error.errno not in BROKEN:
                raise OSError(error.errno, error.strerror, str(folder / name)) from error
            raise Damaged(f"{name} cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise Damaged(f"{name} is damaged ({type(error).__name__})") from error
        return Artefact(record, tensors, arrays, digest, _content(files), reused=True)

    def _keep(self, digest: str, kind: str, key: Mapping[str, Any], made: Artefact) -> Artefact:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in made.tensors.items()}
        made = replace(made, tensors=plain, digest=digest)
        folder = self.folder(digest)
        draft = self.root / "drafts" / f"{digest[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        draft.mkdir(parents=True)
        try:
            write_json(draft / "key.json", {"kind": kind, **key})
            write_json(draft / "record.json", made.record)
            with system_errors(draft):
                if made.tensors:
                    from safetensors.torch import save_file

                    save_file(made.tensors, draft / "tensors.safetensors")
                    sync(draft / "tensors.safetensors")
                if made.arrays:
                    arrays: dict[str, Any] = made.arrays
                    np.savez(draft / "arrays.npz", **arrays)
                    sync(draft / "arrays.npz")
            files = {path.name: file_digest(path) for path in sorted(draft.iterdir())}
            marker = {"schema": 2, "kind": kind, "made": time.time(), "files": files}
            write_json(draft / MARKER, {**marker, "checksum": self.digest("marker", marker)})
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(draft, folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return self.read(digest)  # another process took the claim over and was first
            sync(folder.parent)
            shutil.rmtree(self.root / "checkpoints" / digest, ignore_errors=True)
            return replace(made, content=_content(files))
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def entries(self) -> Iterator[StoreEntry]:
        """Yield what is stored, one entry an artefact, without reading its contents."""
        for folder in sorted(self.root.glob("??/*")):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                kind, made, used = "damaged", 0.0, folder.stat().st_mtime
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, Damaged):
                    used = (folder / MARKER).stat().st_mtime
                    data = _marker(folder)
                    kind, made = str(data["kind"]), float(data["made"])
                yield StoreEntry(folder.name, kind, made, used, folder_size(folder))

    def keys(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield what determines each stored artefact of this kind; one that cannot be read is passed over."""
        for path in sorted(self.root.glob("??/*/key.json")):
            with contextlib.suppress(OSError, ValueError):
                key = json.loads(path.read_text(encoding="utf-8"))
                if key["kind"] == kind:
                    yield key

    def remove(self, digest: str) -> None:
        """Delete one artefact; it goes at once, so that a reader never takes a part for the whole."""
        doomed = self.root / "drafts" / f"{digest[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.folder(digest), doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def folder_size(folder: Path) -> int:
    """Return the bytes of the files below a folder, or of one file; one that goes meanwhile counts nothing."""
    size = 0
    for path in folder.rglob("*") if folder.is_dir() else [folder]:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def _marker(folder: Path) -> Any:
    """Return what an artefact's marker says, of which its own checksum covers every word."""
    marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    checksum = marker.pop("checksum", None)
    if marker["schema"] != 1 and checksum != Store.digest("marker", marker):  # the first schema had no checksum
        raise Damaged(f"{MARKER} is damaged")
    return marker


def _content(files: Mapping[str, str]) -> str:
    return "+".join(files[name] for name in ("tensors.safetensors", "arrays.npz") if name in files)


@dataclass(frozen=True)
class StoreEntry:
    """One line of `advunlearn store ls`: digest, kind, when it was made and last used (seconds since 1970), bytes."""

    digest: str
    kind: str
    made: float
    used: float
    size: int
