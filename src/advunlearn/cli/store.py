"""`advunlearn store`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from advunlearn.cli.problems import in_words, refuse

if TYPE_CHECKING:
    from advunlearn.storage.store import Store, StoreEntry

DAYS = 30.0


def main(arguments: list[str]) -> int:
    """`advunlearn store`: what earlier runs made and later ones reuse."""
    parser = argparse.ArgumentParser("advunlearn store", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ls", help="every artefact: name, kind, time since its last use, size")
    verbs.add_parser("verify", help="read everything; exit status 1 if something is damaged or cannot be read")
    prune = verbs.add_parser("prune", help="delete what was not used for some days, or what is beyond a size")
    prune.add_argument(
        "--days", help=f"keep what was used since (default {DAYS:g}, or no limit with --max-size; 0: all)"
    )
    prune.add_argument("--max-size", metavar="SIZE", help="then delete the least recently used until it fits: 20GB")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    options = parser.parse_args(arguments)
    from advunlearn.storage.store import Store

    store = Store()
    if options.verb == "verify":
        return _verify(store)
    if options.verb == "prune":
        return _prune(store, options.days, options.max_size, dry_run=options.dry_run)
    total = sum(map(_show, store.entries()))
    sys.stdout.write(f"{total / 1e6:.2f} MB stored in {store.root}\n")
    return 0


def _show(entry: StoreEntry) -> int:
    """Print an entry's line and return its size."""
    days = (time.time() - entry.used) / 86400
    sys.stdout.write(f"{entry.digest[:16]}  {entry.kind:<16}{days:>7.1f} days {entry.size / 1e6:>9.2f} MB\n")
    return entry.size


def _verify(store: Store) -> int:
    from advunlearn.storage.store import Damaged

    read, damaged = 0, 0
    for entry in store.entries():
        try:
            store.read(entry.digest)
            read += 1
        except FileNotFoundError:
            continue  # deleted meanwhile
        except (Damaged, OSError) as error:
            damaged += 1
            sys.stdout.write(f"{entry.digest[:16]}  {entry.kind:<16}{in_words(error)}\n")
    sys.stdout.write(f"{read} whole, {damaged} damaged in {store.root}")
    sys.stdout.write(" (what is damaged is made again when a run wants it)\n" if damaged else "\n")
    return 1 if damaged else 0


def _prune(store: Store, typed_days: str | None, typed_size: str | None, *, dry_run: bool) -> int:
    from advunlearn.storage.prune import delete, doomed, parse_size
    from advunlearn.storage.store import folder_size

    days, size, problems = None, None, []
    try:
        days = float(typed_days) if typed_days is not None else DAYS if typed_size is None else None
    except ValueError:
        days = -1.0
    if days is not None and not days >= 0:
        problems.append(f"--days must be a number of at least 0, got {typed_days} (try --days {DAYS:g})")
    try:
        size = None if typed_size is None else parse_size(typed_size)
    except ValueError as error:
        problems.append(f"--max-size {error}")
    if problems:
        return refuse(problems)
    total = 0
    for entry in doomed(store, days, size):
        if not dry_run:
            delete(store, entry)
        total += _show(entry)
    done = "would be deleted" if dry_run else "deleted"
    left = folder_size(store.root) - total * dry_run
    sys.stdout.write(f"{total / 1e6:.2f} MB {done}, {left / 1e6:.2f} MB left in {store.root}\n")
    if size is not None and left > size:
        sys.stdout.write("what is left is in use, or was within the last hour (--days 0 deletes the latter too)\n")
    return 0
