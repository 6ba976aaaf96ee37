"""Keep the store within its room: sizes as people type them, what may be deleted, and a word in time."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator

from advunlearn.options import UserError
from advunlearn.storage.store import Store, StoreEntry, folder_size

logger = logging.getLogger(__name__)

HOUR, DAY = 3600.0, 86400.0
# Folders beside the artefacts, and for how many seconds nothing in them was touched when nobody wants it any more. A
# claim and a draft of the living are touched more often; a checkpoint's run may wait for its turn on a cluster.
LEFTOVERS = {"claims": HOUR, "drafts": HOUR, "damaged": DAY, "checkpoints": DAY}
UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 20GB or 1.5TiB means.

    Raises:
        UserError: in one line without a subject, if it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B", text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        raise UserError(f"must be a size such as 20GB or 500MB, got {text}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** UNITS[found[2].upper()])


def doomed(store: Store, days: float | None = None, max_size: int | None = None) -> Iterator[StoreEntry]:
    """Yield what `advunlearn store prune` deletes.

    That is what processes that ended left behind, artefacts not used for `days`, and the least recently used of the
    others until the store holds no more than `max_size` bytes. The size leaves alone what was used within the last
    hour, which a run may count on; it loses no more than time if that goes too. No artefact goes that is being made.
    """
    now = time.time()
    excess = 0 if max_size is None else folder_size(store.root) - max_size
    for entry in leftovers(store, now):
        excess -= entry.size
        yield entry
    for entry in sorted(store.entries(), key=lambda entry: entry.used):
        if (store.root / "claims" / entry.digest).exists():
            continue
        old = days is not None and now - entry.used >= days * DAY
        if old or (excess > 0 and now - entry.used >= HOUR):
            excess -= entry.size
            yield entry


def leftovers(store: Store, now: float) -> Iterator[StoreEntry]:
    """Yield what processes that ended, or damage, left in the store's other folders."""
    for name, age in LEFTOVERS.items():
        for path in sorted((store.root / name).glob("*")):
            try:
                used = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
            except FileNotFoundError:
                continue  # its owner is at work
            if now - used >= age:
                yield StoreEntry(path.name, name, used, used, folder_size(path))


def delete(store: Store, entry: StoreEntry) -> None:
    """Delete what `doomed` yielded."""
    path = store.root / entry.kind / entry.digest
    if entry.kind not in LEFTOVERS:
        store.remove(entry.digest)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
        size = folder_size(store.root)
        if size > 0.9 * quota:
            logger.warning("the store holds %.2f GB of its quota of %s; %s", size / 1e9, typed, hint)
            return
    there = next(path for path in (store.root, *store.root.absolute().parents) if path.exists())
    disk = shutil.disk_usage(there)
    if disk.free < min(max(0.05 * disk.total, 1e9), 10e9):
        logger.warning("the disk of the store, %s, has %.2f GB left; %s", store.root, disk.free / 1e9, hint)
