"""Keep the store within its room: sizes as people type them, what may be deleted, and a word in time."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from advunlearn.options import UserError
from advunlearn.storage.folders import below, delete_tree, folder_size, names_in
from advunlearn.storage.store import NAME, Store, StoreEntry

logger = logging.getLogger(__name__)

HOUR, DAY = 3600.0, 86400.0
_DRAFT = r"[0-9a-f]{16}(-\d+)?-[0-9a-f]{8}"
# Of each folder next to the artefacts: the names that a run gives there, as nothing else in it is touched, and the
# seconds without a change after which nobody needs the thing any more. A claim and a draft of a living process are
# touched more often; a checkpoint's run may wait for its turn on a cluster.
LEFTOVERS = {
    "claims": (NAME, HOUR),
    "drafts": (_DRAFT, HOUR),
    "damaged": (_DRAFT, DAY),
    "checkpoints": (NAME, DAY),
}
UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 20GB or 1.5TiB means.

    Raises:
        UserError: if the text is not a size; the message has no subject, so that the caller can name the option.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise UserError(f"must be a size such as 20GB or 500MB, got {text}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** UNITS[found[2].upper()])


def prune(
    store: Store, days: float | None = None, max_size: int | None = None, *, dry_run: bool = False
) -> Iterator[tuple[StoreEntry, bool]]:
    """Delete what is not needed; yield each entry, and whether it was deleted, or would be without `dry_run`.

    That is what processes that ended left, artefacts not used for `days`, and the least recently used of the others
    until the store holds no more than `max_size` bytes. The size spares what was used within the last hour, which a run
    may count on; it loses no more than time if that is deleted too. Nothing is deleted that is being made. What belongs
    to another user, who does not let this one delete it, stays.
    """
    if store.root.is_dir():
        with nullcontext() if dry_run else _alone(store.root):
            yield from _prune(store, days, max_size, dry_run)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for others of this machine: two at once would both measure the excess, and together delete too much.

    The lock is on the folder itself, as a full disk has no room for the file of a claim.
    """
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _prune(store: Store, days: float | None, max_size: int | None, dry_run: bool) -> Iterator[tuple[StoreEntry, bool]]:
    now = time.time()
    excess = 0 if max_size is None else _size(store) - max_size
    for entry in leftovers(store, now):
        gone = dry_run or _delete(store, entry)
        excess -= entry.size * gone
        yield entry, gone
    for entry in sorted(store.entries(), key=lambda entry: entry.used):
        if (store.area("claims") / entry.digest.partition("-")[0]).exists():
            continue
        old = days is not None and now - entry.used >= days * DAY
        if old or (excess > 0 and now - entry.used >= HOUR):
            gone = dry_run or _delete(store, entry)
            excess -= entry.size * gone
            yield entry, gone


def leftovers(store: Store, now: float) -> Iterator[StoreEntry]:
    """Yield what processes that ended, or damage, left in the store's other folders."""
    for kind, (pattern, age) in LEFTOVERS.items():
        area = store.area(kind)
        for name in names_in(area, pattern):
            used = max((status.st_mtime for status in below(area / name)), default=now)
            if now - used >= age:
                yield StoreEntry(name, kind, used, used, folder_size(area / name), area / name)


def _delete(store: Store, entry: StoreEntry) -> bool:
    """Delete what an entry names; return whether it is gone, which another user's may not be."""
    if entry.path.parent.name in LEFTOVERS:
        delete_tree(entry.path)
        return not os.path.lexists(entry.path)
    try:
        store.remove(entry.digest)
    except PermissionError:
        return False
    return True


def _size(store: Store) -> int:
    return folder_size(store.root.resolve())  # the store itself may be a link to a larger disk


def warn_of_little_room(store: Store) -> None:
    """Log one line if the store is beyond 90 % of `$ADVUNLEARN_QUOTA`, or its disk nearly full.

    Nearly full is less than 5 % free, where that is between 1 and 10 GB. The store is measured if there is a quota.

    Raises:
        UserError: in one line, if the quota is no size.
    """
    # These limits are conventions, not measured: 1 GB is room for 20 networks of the size of ResNet-18.
    hint = "make room with: advunlearn store prune --max-size SIZE"
    if typed := os.environ.get("ADVUNLEARN_QUOTA"):
        try:
            quota = parse_size(typed)
        except ValueError as error:
            raise UserError(f"ADVUNLEARN_QUOTA {error}") from error
        size = _size(store)
        if size > 0.9 * quota:
            logger.warning("the store holds %.2f GB of its quota of %s; %s", size / 1e9, typed, hint)
            return
    there = next(path for path in (store.root, *store.root.absolute().parents) if path.exists())
    disk = shutil.disk_usage(there)
    if disk.free < min(max(0.05 * disk.total, 1e9), 10e9):
        logger.warning("the disk of the store, %s, has %.2f GB left; %s", store.root, disk.free / 1e9, hint)
