from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from advunlearn.store import MARKER, Artefact, Store, StoreEntry, atomic_write, index_digest, write_json

KEY = {"seed": 1, "rows": "abc"}


def made() -> Artefact:
    tensors = {
        "weight": torch.arange(6.0).reshape(2, 3),
        "image": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    return Artefact({"seconds": 1.5}, tensors, {"logits": np.eye(3, dtype=np.float32)})


def refuse() -> Artefact:
    raise AssertionError("made again although it was stored")


def test_what_was_made_once_is_read_afterwards(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.get_or_make("model", KEY, made)
    second = store.get_or_make("model", KEY, refuse)
    assert not first.reused
    assert second.reused
    assert second.record == {"seconds": 1.5}
    assert (second.arrays["logits"] == np.eye(3)).all()
    assert all(torch.equal(second.tensors[name], tensor) for name, tensor in first.tensors.items())
    assert first.digest == second.digest == Store.digest("model", KEY)


def test_every_part_of_the_key_and_the_kind_count() -> None:
    digests = {
        Store.digest("model", KEY),
        Store.digest("shadow", KEY),
        Store.digest("model", {**KEY, "seed": 2}),
        Store.digest("model", {**KEY, "more": None}),
    }
    assert len(digests) == 4
    assert Store.digest("model", {"rows": "abc", "seed": 1}) == Store.digest("model", KEY)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"files": {}}))


@pytest.mark.parametrize("name", ["record.json", "tensors.safetensors", "arrays.npz", "key.json", MARKER])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, replace_by_pickle, os.unlink])
def test_damage_is_said_set_aside_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    damage(store.folder(digest) / name)
    with caplog.at_level(logging.WARNING):
        again = store.get_or_make("model", KEY, made)
    assert not again.reused
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert store.get_or_make("model", KEY, refuse).reused


def test_a_failed_making_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> Artefact:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        store.get_or_make("model", KEY, fail)
    assert list(store.entries()) == []
    assert store.get_or_make("model", KEY, made).reused is False


def _work(root: str, counter: str) -> None:
    def slow() -> Artefact:
        with open(counter, "a") as file:
            file.write("made\n")
        time.sleep(0.3)
        return made()

    assert Store(Path(root)).get_or_make("model", KEY, slow).record == {"seconds": 1.5}


def test_of_several_processes_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "store"), str(tmp_path / "counter"))
    workers = [context.Process(target=_work, args=arguments) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert (tmp_path / "counter").read_text() == "made\n"


def _hang(root: str, started: str) -> None:
    def never() -> Artefact:
        Path(started).touch()
        time.sleep(60)
        return made()

    Store(Path(root)).get_or_make("model", KEY, never)


def test_a_killed_maker_does_not_block_the_next(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_hang, args=(str(tmp_path), str(tmp_path / "started")))
    worker.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    assert Store(tmp_path).get_or_make("model", KEY, made).reused is False


def test_entries_and_removal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    (entry,) = store.entries()
    assert isinstance(entry, StoreEntry)
    assert (entry.digest, entry.kind) == (digest, "model")
    assert entry.size == sum(path.stat().st_size for path in store.folder(digest).iterdir())
    store.remove(digest)
    assert list(store.entries()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"auc": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"auc": float("nan")})

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert json.loads(path.read_text()) == {"auc": 0.5}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_an_index_set_is_its_rows_in_any_order() -> None:
    assert index_digest(np.array([3, 1, 2])) == index_digest(np.array([1, 2, 3], dtype=np.int32))
    assert index_digest(np.array([1, 2])) != index_digest(np.array([1, 2, 3]))
