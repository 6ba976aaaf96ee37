"""The store: artefacts in folders named by the SHA-256 of everything that determines them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advunlearn.storage.artefacts import (
    MARKER,
    Artefact,
    Damaged,
    content_of,
    key_digest,
    read_artefact,
    read_key,
    read_marker,
    write_artefact,
)
from advunlearn.storage.files import sync
from advunlearn.storage.folders import delete_tree, folder_size, make_folder, names_in, owner, refuse_link
from advunlearn.storage.locks import claim
from advunlearn.storage.paths import cache_folder

logger = logging.getLogger(__name__)

NAME = r"[0-9a-f]{64}(-\d+)?"  # of an artefact: its digest, and the user if it is that user's own copy
UNREADABLE = "unreadable"  # the kind of an artefact that another user does not share
_WRITERS = 8


class Store:
    """Artefacts under `root`: each is made once, complete or absent, and checked when it is read."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_folder() / "store"

    digest = staticmethod(key_digest)

    def area(self, name: str) -> Path:
        """Return one of the folders directly in the store, which may not exist.

        Raises:
            UserError: if it is a symbolic link.
        """
        refuse_link(self.root / name)
        return self.root / name

    def path(self, name: str) -> Path:
        """Return the folder of an artefact by its name: its digest, unless it is a user's own copy."""
        return self.area(name[:2]) / name

    def folder(self, digest: str) -> Path:
        """Return the folder in which this user finds or keeps an artefact; it may not exist.

        If another user made it and does not share it, that is a copy of this user's own, next to it.
        """
        common = self.path(digest)
        own = _own(common)
        return own if os.path.lexists(own) or _is_closed(common) else common

    def checkpoints(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Return the folder for checkpoints of the making of an artefact, until the artefact is stored.

        It is there once something is written to it.
        """
        common = self._make_area("checkpoints") / self.digest(kind, key)
        is_common = not os.path.lexists(common) or os.access(common, os.R_OK | os.W_OK | os.X_OK)
        return common if is_common else _own(common)

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
            return self._make(kind, keys, digests, make, wanted=digest).get(digest) or self._use(digest)

    def holds(self, kind: str, keys: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether there is an artefact for each of these keys; none is read."""
        return all(self.folder(self.digest(kind, key)).exists() for key in keys)

    def find(self, kind: str, key: Mapping[str, Any]) -> Artefact | None:
        """Return the artefact that `key` determines if it is stored and whole; nothing is changed."""
        with contextlib.suppress(FileNotFoundError, Damaged):
            return self.read(self.folder(self.digest(kind, key)).name)
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
        return claim(self.area("claims") / digests[0], wait=wait)  # one for all that are made at once

    def _make(
        self,
        kind: str,
        keys: Sequence[Mapping[str, Any]],
        digests: Sequence[str],
        make: Callable[[], Iterable[Artefact]],
        wanted: str | None = None,
    ) -> dict[str, Artefact]:
        """Make what is missing and what is wanted, which this process has claimed, and return it by name."""
        missing = {digest for digest in digests if digest == wanted or not self.folder(digest).exists()}
        if not missing:
            return {}
        for name in {digest[:2] for digest in missing}:
            self._make_area(name)
        # Syncing several artefacts at the same time costs the disk hardly more than syncing one.
        with ThreadPoolExecutor(_WRITERS) as pool:
            kept = {
                digest: pool.submit(self._keep, digest, kind, key, made)
                for digest, key, made in zip(digests, keys, make(), strict=True)
                if digest in missing
            }
        return {digest: each.result() for digest, each in kept.items()}

    def _make_area(self, name: str) -> Path:
        """Return one of the folders directly in the store, made if it is missing.

        Raises:
            PermissionError: if this user may not write there, before any work is done in vain.
        """
        area = self.area(name)
        make_folder(area)
        if not os.access(area, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(area))
        return area

    def _draft(self, digest: str) -> Path:
        return self._make_area("drafts") / f"{digest[:16]}-{os.getpid()}-{secrets.token_hex(4)}"

    def _set_aside(self, digest: str, damage: Damaged) -> None:
        folder = self.folder(digest)
        aside = self._make_area("damaged") / f"{digest[:16]}-{secrets.token_hex(4)}"
        try:
            os.replace(folder, aside)
        except FileNotFoundError:  # deleted meanwhile
            return
        except PermissionError:
            logger.warning("%s in %s, which belongs to %s; made again next to it", damage, folder, owner(folder))
            return
        logger.warning("%s in %s; set aside in %s and made again", damage, folder, aside)

    def _use(self, digest: str) -> Artefact:
        """Return a stored artefact as `read` does, and note the time for `advunlearn store prune`."""
        folder = self.folder(digest)
        artefact = self.read(folder.name)
        with contextlib.suppress(OSError):  # of another user, or in a store that may only be read
            os.utime(folder / MARKER)
        return artefact

    def read(self, name: str) -> Artefact:
        """Return a stored artefact after checking every file against its marker.

        Args:
            name: of its folder: its digest, unless it is a user's own copy.

        Raises:
            FileNotFoundError: if there is no such artefact.
            Damaged: if a file of it is missing, is not the one that was written, or cannot be read.
            OSError: if the system denies access, which does not mean that the artefact is damaged.
        """
        folder = self.path(name)
        found = _status(folder)
        if found is None:
            raise FileNotFoundError(folder)
        try:
            return read_artefact(folder)
        except (Damaged, OSError) as error:
            if _status(folder) != found:  # deleted meanwhile, and perhaps made again
                raise FileNotFoundError(folder) from error
            raise

    def _keep(self, digest: str, kind: str, key: Mapping[str, Any], made: Artefact) -> Artefact:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in made.tensors.items()}
        made = replace(made, tensors=plain, digest=digest)
        draft = self._draft(digest)
        draft.mkdir()
        try:
            files = write_artefact(draft, kind, key, made)
            there = self._place(draft, digest)
            if there is not None:
                return there
            for folder in {self.area("checkpoints") / digest, self.checkpoints(kind, key)}:
                delete_tree(folder)
            return replace(made, content=content_of(files))
        finally:
            delete_tree(draft)

    def _place(self, draft: Path, digest: str) -> Artefact | None:
        """Move a finished artefact to its place; return the one that is there if another process was first."""
        for folder in dict.fromkeys((self.folder(digest), _own(self.path(digest)))):
            try:
                os.replace(draft, folder)
            except (FileExistsError, NotADirectoryError):
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
            else:
                sync(folder.parent)
                return None
            with contextlib.suppress(Damaged, FileNotFoundError):  # of another user, and could not be set aside
                return self.read(folder.name)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))

    def entries(self) -> Iterator[StoreEntry]:
        """Yield what is stored, one entry an artefact, without reading its contents; other names are passed over."""
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                kind, made, used = "damaged", 0.0, folder.lstat().st_mtime
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, Damaged):
                    used = (folder / MARKER).stat().st_mtime
                    data = read_marker(folder)
                    kind, made = str(data["kind"]), float(data["made"])
                if _is_closed(folder):
                    kind = UNREADABLE
                yield StoreEntry(folder.name, kind, made, used, folder_size(folder), folder)

    def _folders(self) -> Iterator[Path]:
        for prefix in names_in(self.root, "[0-9a-f]{2}"):
            area = self.area(prefix)
            yield from (area / name for name in names_in(area, NAME))

    def keys(self, kind: str) -> Iterator[dict[str, Any]]:
        """Yield what determines each stored artefact of this kind; one that cannot be read is passed over."""
        for folder in self._folders():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, Damaged):
                key = read_key(folder)
                if key["kind"] == kind:
                    yield key

    def remove(self, name: str) -> None:
        """Delete one artefact; it goes at once, so that a reader never takes a part for the whole.

        Args:
            name: of its entry.

        Raises:
            PermissionError: if it belongs to another user, and this one may not delete it.
        """
        doomed = self._draft(name)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path(name), doomed)
            delete_tree(doomed)


def _own(common: Path) -> Path:
    """Return the place of a user's own copy of what others keep to themselves."""
    return common.with_name(f"{common.name}-{os.getuid()}")


def _is_closed(folder: Path) -> bool:
    """Return whether this is a folder of which this user may not read every file."""
    try:
        with os.scandir(folder) as files:
            for file in files:
                os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))  # os.access would not tell a file just deleted
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _status(path: Path) -> tuple[int, int] | None:
    """Return the identity of a folder, different for one that replaces it; None if it does not exist."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_ctime_ns  # a number may be used again


@dataclass(frozen=True)
class StoreEntry:
    """One line of `advunlearn store ls`: digest, kind, when it was made and last used (seconds since 1970), bytes.

    The digest of a user's own copy ends with the user's number; `path` is where it is.
    """

    digest: str
    kind: str
    made: float
    used: float
    size: int
    path: Path
