"""`advunlearn data`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from advunlearn.cli.parser import parser_of
from advunlearn.cli.problems import fail, refuse
from advunlearn.options import UserError

PART_SIZE = "50MB"


def main(arguments: list[str]) -> int:
    """`advunlearn data`: datasets, where they are, and how they reach a machine without network."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return int(options.run(options))
    except UserError as error:
        return fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("data", main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    ls = verbs.add_parser("ls", help="every dataset and where it is")
    ls.set_defaults(run=lambda _: _ls())
    fetch = verbs.add_parser("fetch", help="fetch and verify a dataset")
    fetch.set_defaults(run=lambda given: _fetch(given.name))
    fetch.add_argument("name")
    pack = verbs.add_parser("pack", help="write a fetched dataset as lossless parts, for a machine without network")
    pack.set_defaults(run=lambda given: _pack(given.name, given.folder, given.part_size))
    pack.add_argument("name")
    pack.add_argument("folder", type=Path)
    pack.add_argument(
        "--part-size", default=PART_SIZE, metavar="SIZE", help=f"the largest size of a part (default {PART_SIZE})"
    )
    unpack = verbs.add_parser("unpack", help="fill the cache from the parts in a folder")
    unpack.set_defaults(run=lambda given: _unpack(given.folder))
    unpack.add_argument("folder", type=Path)
    return parser


def _ls() -> int:
    from advunlearn.data.catalogue import datasets
    from advunlearn.report.plain_text import align

    lines = align([(name, dataset.status()) for name, dataset in datasets().items()])
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _fetch(name: str) -> int:
    from advunlearn.data.catalogue import datasets

    known = datasets()
    if name not in known:
        return refuse([f"no such dataset: {name}; choose one of {', '.join(known)}"])
    known[name]().load()
    sys.stdout.write(f"{name}: {known[name].status()}\n")
    return 0


def _pack(name: str, folder: Path, part_size: str) -> int:
    from advunlearn.data.catalogue import datasets
    from advunlearn.data.fetch import cached
    from advunlearn.data.parts import pack
    from advunlearn.runtime.resources import parse_size

    fetched = {each: dataset for each, dataset in datasets().items() if dataset.digests}
    if name not in fetched:
        return refuse([f"{name} is not a dataset that is fetched; choose one of {', '.join(fetched)}"])
    try:
        size = parse_size(part_size)
    except ValueError as error:
        return refuse([f"--part-size {error}"])
    arrays = cached(name, fetched[name].digests)
    if arrays is None:
        raise UserError(f"{name} is not in the cache (advunlearn data fetch {name})")
    for path in pack(name, arrays, folder, size):
        sys.stdout.write(f"{path}  {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


def _unpack(folder: Path) -> int:
    from advunlearn.data.catalogue import datasets
    from advunlearn.data.fetch import add_to_cache
    from advunlearn.data.parts import find, unpack

    if not folder.is_dir():
        return refuse([f"{folder}: no such folder"])
    known = datasets()
    for name, parts in find(folder).items():
        if name not in known or not known[name].digests:
            raise UserError(f"{parts[0].path}: this version does not know the dataset {name}")
        arrays = unpack(parts, known[name].digests, known[name]().info(), known[name].fetched_bytes)
        add_to_cache(name, arrays)
        sys.stdout.write(f"{name}: {known[name].status()}\n")
    return 0
