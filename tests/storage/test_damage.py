"""The store of a real run, damaged file by file: noticed, said, set aside and made again to the same results."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import advunlearn
from advunlearn.storage.artefacts import MARKER
from advunlearn.storage.store import Store
from advunlearn.storage.store import logger as store_logger
from tests.storage.test_store import empty, flip_a_bit, truncate
from tests.test_run import without_seconds

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


def replace_by_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


DAMAGES = [truncate, flip_a_bit, empty, os.unlink, replace_by_pickle]
NAMES = ["tensors.safetensors", "arrays.npz", "key.json", "record.json", MARKER]


def artefacts(store: Store) -> list[Path]:
    """Return the folders of what a second run reads if all of it is damaged: one of the shadow models is enough."""
    # Those of numbers alone last: the rounds below are for the others.
    entries = sorted(store.entries(), key=lambda entry: (entry.kind in ("selection", "weights"), entry.kind))
    shadow = next(entry.digest for entry in entries if entry.kind == "shadow" and is_first(store, entry.digest))
    return [store.folder(entry.digest) for entry in entries if entry.kind != "shadow" or entry.digest == shadow]


def is_first(store: Store, digest: str) -> bool:
    return '"shadow",\n  0\n' in (store.folder(digest) / "key.json").read_text()


def test_every_file_of_every_artefact_and_every_damage_of_every_kind_of_file(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = advunlearn.run(QUICK).metrics
    store = Store()
    folders = artefacts(store)
    assert sorted(len(list(folder.iterdir())) for folder in folders) == [3, 3] + [4] * 6  # two of numbers alone
    done = set()
    # In a round every artefact loses one file, each in another way. Tensors are in three artefacts only, and arrays in
    # the three others: they lose those in two rounds.
    for number, shift in ((0, 0), (0, 3), (1, 0), (2, 0), (3, 0)):
        said_of = {}
        for place, folder in enumerate(folders):
            files = sorted(folder.iterdir(), key=lambda path: NAMES.index(path.name))
            path = files[min(number, len(files) - 1)]
            damage = DAMAGES[(place + shift) % len(DAMAGES)]
            damage(path)
            done.add((path.name, damage))
            said_of[folder] = path.name
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            again = advunlearn.run(QUICK).metrics
        for folder, name in said_of.items():
            (said,) = (message for message in caplog.messages if str(folder) in message)
            assert "set aside" in said
            assert name in said
        of_store = [record for record in caplog.records if record.name == store_logger.name]  # not of the estimate
        assert len(of_store) == len(folders)
        assert without_seconds(again) == without_seconds(whole)
        assert not Path("unpickled").exists()
    assert done == set(itertools.product(NAMES, DAMAGES))
    for entry in store.entries():
        store.read(entry.digest)
    assert len(list((store.root / "damaged").iterdir())) == 5 * len(folders)
