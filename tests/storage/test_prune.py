"""Room: sizes, what is deleted and what stays, and the warning."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advunlearn.cli import main
from advunlearn.runtime.resources import parse_size
from advunlearn.storage import artefacts as artefacts_module
from advunlearn.storage.artefacts import MARKER, Artefact
from advunlearn.storage.files import file_digest
from advunlearn.storage.folders import delete_tree, folder_size
from advunlearn.storage.paths import cache_folder
from advunlearn.storage.prune import DAY, HOUR, prune, warn_if_nearly_full
from advunlearn.storage.store import Store
from tests.storage.at_once import exit_codes

MEGABYTE = 10**6


def stored(store: Store, name: str, seconds_ago: float) -> str:
    """Store an artefact of a little more than a megabyte, last used so long ago, and return its name."""
    array = {"array": np.zeros(MEGABYTE, np.uint8)}
    digest = store.get_or_make("model", {"name": name}, lambda: Artefact({}, {}, array)).digest
    os.utime(store.folder(digest) / MARKER, (time.time() - seconds_ago,) * 2)
    return digest


def names(store: Store) -> set[str]:
    return {str(key["name"]) for key in store.keys("model")}


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5 tb", 15 * 10**11), ("2KiB", 2048), ("1GiB", 2**30), ("0B", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "20", "GB", "-1GB", "20GBs", "1iB", "1e3MB", "nanGB", "20 XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^must be a size such as 20GB or 500MB, got {text}$"):
        parse_size(text)


def test_prune_goes_by_the_last_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stored(store, "old", 10 * DAY)
    stored(store, "used", 10 * DAY)
    stored(store, "new", 0)
    store.get_or_make("model", {"name": "used"}, lambda: Artefact({}, {}, {}))
    assert all(gone for _, gone in prune(store, days=5))
    assert names(store) == {"used", "new"}


def test_prune_to_a_size_begins_with_the_least_recently_used_and_keeps_the_last_hour(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, name in enumerate("cab"):
        stored(store, name, (5 - number) * HOUR)
    stored(store, "in use", 0)
    assert list(prune(store, max_size=5 * MEGABYTE)) == []
    assert all(gone for _, gone in prune(store, max_size=3 * MEGABYTE))
    assert names(store) == {"b", "in use"}
    assert folder_size(tmp_path) <= 3 * MEGABYTE
    assert all(gone for _, gone in prune(store, max_size=0))
    assert names(store) == {"in use"}
    assert all(gone for _, gone in prune(store, days=0))
    assert names(store) == set()


def leave(folder: Path, name: str, seconds_ago: float) -> Path:
    """Make a folder of this name with a file in it, as a process that ended so long ago left it."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "part").write_text("half")
    for each in (path / "part", path):
        os.utime(each, (time.time() - seconds_ago,) * 2)
    return path


AREAS = {"claims": HOUR, "drafts": HOUR, "damaged": DAY, "checkpoints": DAY}


def own_names(area: str) -> list[str]:
    """Return two names such as a run gives in this folder of the store."""
    digests = [Store.digest("model", {"name": name}) for name in "ab"]
    end = {"drafts": "-4321-0123abcd", "damaged": "-0123abcd"}.get(area)
    return digests if end is None else [digest[:16] + end for digest in digests]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = {store.folder(stored(store, "kept", 0))}
    dead = set()
    for area, age in AREAS.items():
        old, new = own_names(area)
        dead.add(leave(tmp_path / area, old, 2 * age))
        kept.add(leave(tmp_path / area, new, age / 4))
    assert {entry.path for entry, gone in prune(store, days=30) if gone} == dead
    assert set(tmp_path.glob("*/*")) == kept


def test_an_old_claim_a_file_goes_too(tmp_path: Path) -> None:
    claim = tmp_path / "claims" / own_names("claims")[0]
    claim.parent.mkdir()
    claim.touch()
    os.utime(claim, (0, 0))
    assert all(gone for _, gone in prune(Store(tmp_path)))
    assert not claim.exists()


def test_a_damaged_artefact_that_is_old_goes_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.folder(stored(store, "damaged", 0))
    (folder / MARKER).unlink()
    os.utime(folder, (0, 0))
    assert [(entry.kind, gone) for entry, gone in prune(store, days=1)] == [("damaged", True)]
    assert not folder.exists()


@pytest.mark.parametrize("area", [*AREAS, "", "ab"])
def test_what_has_no_name_of_ours_is_never_touched(tmp_path: Path, area: str) -> None:
    theirs = [leave(tmp_path / area, name, 100 * DAY) for name in ("photos", "a" * 63, "A" * 64, f"{'a' * 64}.bak")]
    assert list(prune(Store(tmp_path), days=0, max_size=0)) == []
    assert all((path / "part").exists() for path in theirs)


def _make(root: Path) -> None:
    def slow() -> Artefact:
        (root / "begun").touch()
        while not (root / "end").exists():
            time.sleep(0.01)
        return Artefact({}, {}, {})

    Store(root / "store").get_or_make("model", {"name": "mine"}, slow)


def test_what_is_being_made_and_what_was_read_survive_pruning(tmp_path: Path) -> None:
    maker = multiprocessing.get_context("fork").Process(target=_make, args=(tmp_path,))
    maker.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    store = Store(tmp_path / "store")
    digest = stored(store, "promised", 0)
    assert all(gone for _, gone in prune(store, days=0, max_size=0))
    (tmp_path / "end").touch()
    maker.join()
    assert maker.exitcode == 0
    assert names(store) == {"mine"}
    assert stored(store, "promised", 0) == digest  # it is simply made again


def test_the_command_lines(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    stored(store, "old", 2 * DAY)
    stored(store, "new", 2 * HOUR)
    assert main(["store", "prune", "--max-size", "1.5MB", "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2
    assert "would be deleted" in out[-1]
    assert names(store) == {"old", "new"}
    assert main(["store", "prune", "--max-size", "0.5MB"]) == 0
    assert "deleted" in capsys.readouterr().out
    assert names(store) == set()
    stored(store, "in use", 0)
    assert main(["store", "prune", "--max-size", "0.5MB"]) == 0
    assert "within the last hour" in capsys.readouterr().out
    assert main(["store", "prune", "--max-size", "x", "--days", "nan"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --days must be a number of at least 0, got nan (try --days 30)",
        "error: --max-size must be a size such as 20GB or 500MB, got x",
    ]


def test_verify_names_what_is_not_whole_and_ends_with_status_1(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    digests = [stored(store, name, DAY) for name in "abc"]
    assert main(["store", "verify"]) == 0
    assert [round((time.time() - entry.used) / DAY) for entry in store.entries()] == [1] * 3  # looking is no use
    capsys.readouterr()
    (store.folder(digests[0]) / MARKER).unlink()
    (store.folder(digests[1]) / "arrays.npz").unlink()
    assert main(["store", "verify"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(digest[:16] for digest in digests[:2])
    assert any(f"{MARKER} cannot be read" in line for line in lines)
    assert any("arrays.npz cannot be read" in line for line in lines)
    assert last.startswith("1 whole, 2 damaged in ")


Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize(
    ("total", "free", "warned"),
    [(10**11, 6 * 10**9, False), (10**11, 4 * 10**9, True), (10**9, 9 * 10**8, True), (10**15, 10**11, False)],
)
def test_a_disk_that_is_nearly_full_is_said_once(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    total: int,
    free: int,
    warned: bool,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(total, total - free, free) if path.exists() else None)
    monkeypatch.setattr("advunlearn.storage.prune.folder_size", None)  # nothing is measured without a quota
    warn_if_nearly_full(Store())
    assert len(caplog.messages) == warned
    assert all("advunlearn store prune" in message for message in caplog.messages)
    assert not cache_folder().exists()


def test_a_store_near_its_quota_is_said_once(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    stored(Store(), "one", 0)
    monkeypatch.setenv("ADVUNLEARN_QUOTA", "2MB")
    warn_if_nearly_full(Store())
    assert caplog.messages == []
    monkeypatch.setenv("ADVUNLEARN_QUOTA", "1.1MB")
    warn_if_nearly_full(Store())
    assert [message.split(";")[0] for message in caplog.messages] == ["the store holds 0.00 GB of its quota of 1.1MB"]
    assert "advunlearn store prune" in caplog.text
    monkeypatch.setenv("ADVUNLEARN_QUOTA", "plenty")
    with pytest.raises(ValueError, match=r"^ADVUNLEARN_QUOTA must be a size such as 20GB or 500MB, got plenty$"):
        warn_if_nearly_full(Store())


def _come_and_go(root: Path) -> None:
    """Make and delete artefacts, drafts, claims and checkpoints until the file `end` is there."""
    store, number = Store(root / "store"), 0
    while not (root / "end").exists():
        number += 1
        digest = store.get_or_make("model", {"name": number, "by": os.getpid()}, lambda: Artefact({}, {}, {})).digest
        leave(store.area("checkpoints"), digest, 2 * DAY)
        store.remove(digest)
        delete_tree(store.area("checkpoints") / digest)


def test_a_busy_store_can_be_looked_at_and_pruned_by_many(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = cache_folder()
    root.mkdir()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_come_and_go, args=(root,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    store, end = Store(), time.monotonic() + 3
    while time.monotonic() < end:
        assert folder_size(store.root) >= 0
        assert {entry.kind for entry in store.entries()} <= {"model", "damaged"}
        assert None not in names(store)
        assert main(["store", "prune", "--max-size", "0B"]) == 0
        assert main(["store", "verify"]) == 0
    (root / "end").touch()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert " 0 damaged in " in capsys.readouterr().out


def _prune(root: Path, begin: Path, size: int) -> None:
    while not begin.exists():
        time.sleep(0.001)
    assert all(gone for _, gone in prune(Store(root), max_size=size))


def test_of_many_prunes_at_once_each_works_and_together_they_delete_no_more_than_one(tmp_path: Path) -> None:
    store, begin = Store(tmp_path / "store"), tmp_path / "begin"
    for number in range(20):
        stored(store, f"{number:02}", (100 - number) * HOUR)
    assert exit_codes(_prune, [(store.root, begin, 10 * MEGABYTE + 50_000)] * 4, begin) == [0] * 4
    assert names(store) == {f"{number:02}" for number in range(10, 20)}


@pytest.mark.parametrize("when", ["walk", "list"])
def test_a_folder_that_goes_between_two_looks_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = leave(tmp_path, "folder", 0)
    scandir, lstat = os.scandir, os.lstat

    def going(look: Callable[..., Any]) -> Callable[..., Any]:
        def after(path: Any) -> Any:
            if Path(os.fsdecode(path)).is_relative_to(folder):
                shutil.move(folder, tmp_path / "gone")
            return look(path)

        return after

    monkeypatch.setattr(os, "scandir" if when == "walk" else "lstat", going(scandir if when == "walk" else lstat))
    assert folder_size(folder) == 0


def test_an_artefact_that_is_deleted_and_made_again_while_it_is_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)

    def make(seconds: float) -> str:
        return store.get_or_make("model", {"name": "again"}, lambda: Artefact({"seconds": seconds}, {}, {})).digest

    digest = make(1.0)

    def after_a_prune(path: Path) -> str:
        monkeypatch.undo()
        store.remove(digest)
        make(2.0)  # its record is another, and so is its checksum
        return file_digest(path)

    monkeypatch.setattr(artefacts_module, "file_digest", after_a_prune)
    with pytest.raises(FileNotFoundError):
        store.read(digest)
    assert store.read(digest).record == {"seconds": 2.0}
