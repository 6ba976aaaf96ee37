"""`advunlearn store`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import fail, in_words, print_text, refuse
from advunlearn.options import UserError
from advunlearn.report.plain_text import align

if TYPE_CHECKING:
    from advunlearn.storage.store import Store, StoreEntry

DAYS = 30.0


def main(arguments: list[str]) -> int:
    """`advunlearn store`: the results that later runs reuse."""
    parser = parser_of("store", main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    ls = verbs.add_parser("ls", help="a line for each kind of artefact: how many, time since their last use, size")
    ls.add_argument("--all", action="store_true", help="a line for each artefact, with its name")
    verbs.add_parser(
        "verify",
        help="read everything; exit status 1 if something is damaged, or not readable for you",
    )
    prune = verbs.add_parser(
        "prune", help="delete results that were not used for some days, or the oldest ones above a size"
    )
    prune.add_argument(
        "--days", help=f"keep results used in this time (default {DAYS:g}, no limit with --max-size; 0 deletes all)"
    )
    prune.add_argument(
        "--max-size", metavar="SIZE", help="then delete the least recently used until the store has this size (20GB)"
    )
    prune.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    options = parser.parse_args(arguments)
    from advunlearn.storage.store import Store

    store = Store()
    try:
        if options.verb == "verify":
            return _verify(store)
        if options.verb == "prune":
            return _prune(store, options.days, options.max_size, dry_run=options.dry_run)
        total = sum(map(_show, store.entries())) if options.all else _show_kinds(store.entries())
    except UserError as error:
        return fail(error)
    print_text(f"{total / 1e6:.2f} MB stored in {store.root}\n")
    return 0


def _show_kinds(entries: Iterable[StoreEntry]) -> int:
    """Print a table with a line for each kind, the largest first, and return the size of all."""
    kinds: dict[str, list[StoreEntry]] = {}
    for entry in entries:
        kinds.setdefault(entry.kind, []).append(entry)
    sizes = {kind: sum(entry.size for entry in found) for kind, found in kinds.items()}
    rows = [("kind", "artefacts", "last used", "size")]
    for kind in sorted(kinds, key=sizes.__getitem__, reverse=True):
        days = (time.time() - max(entry.used for entry in kinds[kind])) / 86400
        rows.append((kind, str(len(kinds[kind])), f"{days:.1f} days ago", f"{sizes[kind] / 1e6:.2f} MB"))
    if kinds:
        print_text("\n".join(align(rows, right=(1, 2, 3))) + "\n")
    return sum(sizes.values())


def _show(entry: StoreEntry) -> int:
    """Print an entry's line and return its size."""
    days = (time.time() - entry.used) / 86400
    print_text(f"{entry.digest[:16]}  {entry.kind:<16}{days:>7.1f} days {entry.size / 1e6:>9.2f} MB\n")
    return entry.size


def _remark(entry: StoreEntry, remark: str) -> None:
    """Print an entry's line with a remark."""
    print_text(f"{entry.digest[:16]}  {entry.kind:<16}{remark}\n")


def _verify(store: Store) -> int:
    from advunlearn.storage.store import UNREADABLE

    counts = {"whole": 0, "damaged": 0, UNREADABLE: 0}
    for entry in store.entries():
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            found, why = _state(store, entry)
            counts[found] += 1
            if why:
                _remark(entry, why)
    unreadable = f", {counts[UNREADABLE]} unreadable" if counts[UNREADABLE] else ""
    hint = " (damaged artefacts are made again when a run needs them)" if counts["damaged"] else ""
    print_text(f"{counts['whole']} whole, {counts['damaged']} damaged{unreadable} in {store.root}{hint}\n")
    return 1 if counts["damaged"] or counts[UNREADABLE] else 0


def _state(store: Store, entry: StoreEntry) -> tuple[str, str]:
    """Return whether an artefact is whole, damaged or unreadable, and why it is not whole."""
    from advunlearn.storage.artefacts import Damaged
    from advunlearn.storage.folders import owner
    from advunlearn.storage.store import UNREADABLE

    if entry.kind == UNREADABLE:
        return UNREADABLE, f"belongs to {owner(entry.path)}, who does not share it"
    try:
        store.read(entry.digest)
    except FileNotFoundError:
        raise
    except OSError as error:
        return UNREADABLE, in_words(error)
    except Damaged as error:
        return "damaged", str(error)
    return "whole", ""


def _prune(store: Store, typed_days: str | None, typed_size: str | None, *, dry_run: bool) -> int:
    from advunlearn.runtime.resources import parse_size
    from advunlearn.storage.folders import folder_size, owner
    from advunlearn.storage.prune import prune

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
    total = kept = 0
    for entry, gone in prune(store, days, size, dry_run=dry_run):
        if gone:
            total += _show(entry)
        else:
            kept += 1
            _remark(entry, f"not deleted: it belongs to {owner(entry.path)}")
    done = "would be deleted" if dry_run else "deleted"
    left = folder_size(store.root.resolve()) - total * dry_run
    print_text(f"{total / 1e6:.2f} MB {done}, {left / 1e6:.2f} MB left in {store.root}\n")
    if size is not None and left > size:
        print_text("the rest is in use, or was used within the last hour (--days 0 deletes the latter too)\n")
    return 1 if kept else 0
