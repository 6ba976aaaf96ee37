"""`advunlearn data`."""

from __future__ import annotations

import argparse
import logging
import sys

from advunlearn.cli.problems import fail, refuse


def main(arguments: list[str]) -> int:
    """`advunlearn data`: datasets, and where they are."""
    parser = argparse.ArgumentParser("advunlearn data", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ls", help="every dataset and whether it is there")
    fetch_parser = verbs.add_parser("fetch", help="fetch and verify a dataset")
    fetch_parser.add_argument("name")
    options = parser.parse_args(arguments)
    from advunlearn.data.catalogue import DATASETS, status

    if options.verb == "ls":
        for name in DATASETS:
            sys.stdout.write(f"{name:<10}{status(name)}\n")
        return 0
    if options.name not in DATASETS:
        return refuse([f"no such dataset: {options.name}; choose one of {', '.join(DATASETS)}"])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        DATASETS[options.name]().load()
    except ValueError as error:
        return fail(error)
    sys.stdout.write(f"{options.name}: {status(options.name)}\n")
    return 0
