"""Store maintenance: delete what is not needed, and warn before the disk is full."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from advunlearn.options import UserError
from advunlearn.runtime.resources import disk, parse_size
from advunlearn.storage.folders import below, delete_tree, folder_size, names_in
from advunlearn.storage.store import NAME, Store, StoreEntry

logger = logging.getLogger(__name__)

HOUR, DAY = 3600.0, 86400.0
_DRAFT = r"[0-9a-f]{16}(-\d+)?-[0-9a-f]{8}"
# For each folder next to the artefacts: the names that runs use in it, since nothing else is deleted, and the seconds
# without a change after which an entry is not needed any more. A living process touches its claims and drafts more
# often; the run of a checkpoint may be waiting in a queue.
LEFTOVERS = {
    "claims": (NAME, HOUR),
    "drafts": (_DRAFT, HOUR),
    "damaged": (_DRAFT, DAY),
    "checkpoints": (NAME, DAY),
}


def prune(
    store: Store, days: float | None = None, max_size: int | None = None, *, dry_run: bool = False
) -> Iterator[tuple[StoreEntry, bool]]:
    """Delete what is not needed; yield each entry, and whether it was deleted, or would be without `dry_run`.

    Deleted are leftovers of ended processes, artefacts not used for `days`, and the least recently used of the others
    until the store has at most `max_size` bytes. The size limit spares artefacts used within the last hour, which a
    run may still need; if one is deleted nevertheless, it is made again. Artefacts that are being made, and those that
    belong to another user and may not be deleted, stay.
    """
    if store.root.is_dir():
        with nullcontext() if dry_run else _alone(store.root):
            yield from _prune(store, days, max_size, dry_run)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other prunes on this machine: two at once would both measure the excess, and delete too much.

    The lock is on the folder itself, because the file of a claim cannot be written on a full disk.
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
    """Yield leftovers of ended processes, and damaged artefacts, in the store's other folders."""
    for kind, (pattern, age) in LEFTOVERS.items():
        area = store.area(kind)
        for name in names_in(area, pattern):
            used = max((status.st_mtime for status in below(area / name)), default=now)
            if now - used >= age:
                yield StoreEntry(name, kind, used, used, folder_size(area / name), area / name)


def _delete(store: Store, entry: StoreEntry) -> bool:
    """Delete an entry; return whether it is gone, since that of another user may stay."""
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


def warn_if_nearly_full(store: Store) -> None:
    """Log one line if the store exceeds 90 % of `$ADVUNLEARN_QUOTA`, or its disk is nearly full.

    Nearly full means less than 5 % free, but at least 1 GB and at most 10 GB. The store is measured only with a quota.

    Raises:
        UserError: in one line, if the quota is not a size.
    """
    # These limits are conventions, not measured: 1 GB holds 20 networks of the size of ResNet-18.
    hint = "free space with: advunlearn store prune --max-size SIZE"
    if typed := os.environ.get("ADVUNLEARN_QUOTA"):
        try:
            quota = parse_size(typed)
        except ValueError as error:
            raise UserError(f"ADVUNLEARN_QUOTA {error}") from error
        size = _size(store)
        if size > 0.9 * quota:
            logger.warning("the store holds %.2f GB of its quota of %s; %s", size / 1e9, typed, hint)
            return
    total, free = disk(store.root)
    if free < min(max(0.05 * total, 1e9), 10e9):
        logger.warning("the disk of the store, %s, has %.2f GB left; %s", store.root, free / 1e9, hint)
