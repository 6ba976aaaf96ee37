"""`advunlearn store`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advunlearn.store import Store


def main(arguments: list[str]) -> int:
    """`advunlearn store`: what earlier runs made and later ones reuse."""
    parser = argparse.ArgumentParser("advunlearn store", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ls", help="every artefact: name, kind, age, size")
    verbs.add_parser("verify", help="read everything; exit status 1 if something is damaged")
    prune = verbs.add_parser("prune", help="delete what is older than some days")
    prune.add_argument("--days", type=float, default=30, help="keep what is younger (default 30; 0 deletes everything)")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    options = parser.parse_args(arguments)
    from advunlearn.store import Store

    kept = Store()
    if options.verb == "verify":
        return _verify(kept)
    now, total = time.time(), 0
    for entry in kept.entries():
        days = (now - entry.made) / 86400
        if options.verb == "prune" and days < options.days:
            continue
        if options.verb == "prune" and not options.dry_run:
            kept.remove(entry.digest)
        sys.stdout.write(f"{entry.digest[:16]}  {entry.kind:<10}{days:>7.1f} days {entry.size / 1e6:>9.2f} MB\n")
        total += entry.size
    done = {"ls": "stored", "prune": "would be deleted" if options.verb == "prune" and options.dry_run else "deleted"}
    which = f", made more than {options.days:g} days ago" if options.verb == "prune" else ""
    sys.stdout.write(f"{total / 1e6:.2f} MB {done[options.verb]}{which} in {kept.root}\n")
    return 0


def _verify(kept: Store) -> int:
    from advunlearn.store import Damaged

    read, damaged = 0, 0
    for entry in kept.entries():
        try:
            kept.read(entry.digest)
            read += 1
        except Damaged as damage:
            damaged += 1
            sys.stdout.write(f"{entry.digest[:16]}  {damage}\n")
    sys.stdout.write(f"{read} whole, {damaged} damaged in {kept.root}\n")
    return 1 if damaged else 0
