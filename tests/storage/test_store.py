from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from advunlearn.storage import locks
from advunlearn.storage.artefacts import MARKER, Artefact, Damaged, index_digest
from advunlearn.storage.files import atomic_write, write_json
from advunlearn.storage.store import Store, StoreEntry
from tests.storage.at_once import exit_codes

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


def _work(root: Path, number: int, names: list[str], begin: Path) -> None:
    """Ask for several artefacts, which note how often they are made."""
    while not begin.exists():
        time.sleep(0.01)
    store = Store(root / "store")

    def make(name: str) -> Artefact:
        with (root / "made").open("a") as file:
            file.write(f"{name}\n")
        time.sleep(0.1)
        return Artefact({"name": name}, *vars_of(made()))

    keys = [{"name": f"{number % 2}/{each}"} for each in range(4)]  # as shadow models: some ask for the same ones
    store.make_missing("shadow", keys, lambda: (make(str(key["name"])) for key in keys))
    for index, key in enumerate(keys):
        assert store.get_one("shadow", keys, index, lambda: (make(str(key["name"])) for key in keys)).record == key
    for name in names:
        assert store.get_or_make("model", {"name": name}, lambda name=name: make(name)).record == {"name": name}  # type: ignore[misc]


def vars_of(artefact: Artefact) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    return artefact.tensors, artefact.arrays


def test_eight_processes_make_each_artefact_once(tmp_path: Path) -> None:
    names = [["same", f"own {number}", "last"] for number in range(8)]
    begin = tmp_path / "begin"
    tasks = [(tmp_path, number, names[number], begin) for number in range(8)]
    assert exit_codes(_work, tasks, begin) == [0] * 8
    wanted = {name for each in names for name in each} | {f"{half}/{each}" for half in range(2) for each in range(4)}
    assert sorted((tmp_path / "made").read_text().splitlines()) == sorted(wanted)
    assert len(list(Store(tmp_path / "store").entries())) == len(wanted)
    assert left_over(tmp_path / "store") == []


def left_over(root: Path) -> list[Path]:
    return [path for name in ("claims", "drafts", "damaged") for path in (root / name).glob("*")]


def test_a_maker_that_another_overtook_gives_what_that_one_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(locks, "LEASE", 0.0)  # every claim is taken for a dead one's

    def slow() -> Artefact:
        assert Store(tmp_path).get_or_make("model", KEY, lambda: Artefact({"by": "the other"}, {}, {})).record
        return made()

    kept = store.get_or_make("model", KEY, slow)
    assert kept.record == {"by": "the other"}
    assert store.get_or_make("model", KEY, refuse).record == {"by": "the other"}
    assert left_over(tmp_path) == []


def _stall(root: Path) -> None:
    def stop() -> Artefact:
        os.kill(os.getpid(), signal.SIGSTOP)
        return made()

    assert Store(root).get_or_make("model", KEY, stop).record == {"by": "the next"}


def test_a_stopped_maker_is_overtaken_and_harms_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LEASE", 0.5)
    maker = multiprocessing.get_context("fork").Process(target=_stall, args=(tmp_path,))
    maker.start()
    assert os.waitpid(maker.pid or 0, os.WUNTRACED)[1] & 0xFF == 0x7F  # stopped
    assert Store(tmp_path).get_or_make("model", KEY, lambda: Artefact({"by": "the next"}, {}, {})).record
    os.kill(maker.pid or 0, signal.SIGCONT)
    maker.join()
    assert maker.exitcode == 0
    assert Store(tmp_path).get_or_make("model", KEY, refuse).record == {"by": "the next"}
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE])
def test_what_the_system_refuses_to_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest

    def refused_to(path: Path) -> str:  # root may read everything, and no test has a file server that goes away
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("advunlearn.storage.artefacts.file_digest", refused_to)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as refused:
        store.read(digest)
    assert Path(refused.value.filename).parent == store.folder(digest)
    monkeypatch.undo()
    assert store.get_or_make("model", KEY, refuse).reused
    assert left_over(tmp_path) == []


def test_a_bit_anywhere_in_the_marker_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    marker = store.folder(digest) / MARKER
    whole = marker.read_bytes()
    for place in range(len(whole)):
        for bit in (place % 8, (place + 3) % 8):
            marker.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(Damaged):
                store.read(digest)


def test_using_an_artefact_is_noted_and_looking_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    marker = store.folder(digest) / MARKER
    os.utime(marker, (0, 0))
    store.read(digest)
    assert next(store.entries()).used == 0
    store.get_or_make("model", KEY, refuse)
    assert next(store.entries()).used > 0


def test_an_artefact_without_its_marker_is_listed_as_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    (store.folder(digest) / MARKER).unlink()
    assert [(entry.digest, entry.kind) for entry in store.entries()] == [(digest, "damaged")]


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
