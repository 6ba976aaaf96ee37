"""A store that several users share: real user ids and real modes."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import torch

import advunlearn
from advunlearn.cli import main
from advunlearn.data.fetch import array_digest, fetched
from advunlearn.storage.files import write_tensors
from advunlearn.storage.folders import make_folder
from advunlearn.storage.locks import claim
from advunlearn.storage.store import Store
from advunlearn.training.checkpoint import Checkpoint
from tests.storage.test_store import KEY, made, refuse
from tests.test_run import without_seconds

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]
GROUP, ANN, BOB = 61000, 61001, 61002

fork = multiprocessing.get_context("fork")


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    """Give `os.umask`, and restore the one of before."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Return the modes of a folder and all below it, by name."""
    return {str(path.relative_to(folder)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o002, "664", "775"), (0o022, "644", "755"), (0o077, "600", "700")]
)
def test_every_file_of_a_run_has_the_mode_that_the_umask_says(
    workplace: Path, umask: Callable[[int], int], mask: int, file: str, folder: str
) -> None:
    umask(mask)
    advunlearn.run([*QUICK, "attack=threshold"], workplace / "out")
    Checkpoint(workplace / "checkpoint", 0).write({"weight": torch.zeros(2)})
    for where in (workplace, Store().root):
        found = modes(where)
        assert any(name.endswith(".safetensors") for name in found)
        assert found == {name: folder if (where / name).is_dir() else file for name in found}


def test_a_tensor_file_keeps_no_mode_of_one_before_it(tmp_path: Path, umask: Callable[[int], int]) -> None:
    umask(0o027)
    write_tensors(tmp_path / "new", {"weight": torch.zeros(2)}, {"about": "it"})
    assert modes(tmp_path) == {"new": "640"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_in_a_shared_folder_the_stores_own_folders_are_as_open_as_it_and_artefacts_as_the_umask_says(
    tmp_path: Path, umask: Callable[[int], int], mask: int
) -> None:
    tmp_path.chmod(0o2775)
    umask(mask)
    store = Store(tmp_path / "store")
    digest = store.get_or_make("model", KEY, made).digest
    store.checkpoints("model", KEY)
    with claim(store.area("claims") / "thing"):
        assert modes(store.root)["claims/thing"] == "664"
    found = modes(tmp_path)
    assert {found.pop(name) for name in ("store", "store/claims", "store/drafts", "store/checkpoints")} == {"2775"}
    assert found.pop(f"store/{digest[:2]}") == "2775"
    assert found.pop(f"store/{digest[:2]}/{digest}") == f"{0o2777 & ~mask:o}"
    assert list(found.values()) == [f"{0o666 & ~mask:o}"] * 5


def test_a_folder_that_is_not_shared_follows_the_umask(tmp_path: Path, umask: Callable[[int], int]) -> None:
    tmp_path.chmod(0o777)
    umask(0o077)
    make_folder(tmp_path / "a" / "b")
    assert modes(tmp_path) == {"a": "700", "a/b": "700"}


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a cache of a group, and make it the cache of all processes; both users may reach it."""
    if os.getuid() != 0:
        pytest.skip("needs root, to work as two users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "cache").mkdir()
        os.chown(folder / "cache", 0, GROUP)
        (folder / "cache").chmod(0o2775)
        monkeypatch.setenv("ADVUNLEARN_CACHE", str(folder / "cache"))
        monkeypatch.chdir(folder)
        if as_user(ANN, 0o022, lambda: Path(sklearn.__file__).read_text(encoding="utf-8")) is None:
            pytest.skip("other users cannot read the packages of this Python")
        for _ in range(2):  # this loads what Python loads late, from where perhaps only root may read
            Store(folder / "alone").get_or_make("model", KEY, made)
        yield folder


def as_user(user: int, mask: int, work: Callable[[], Any]) -> Any:
    """Return what the work returns in a process of this user, one of the group, and with this umask."""

    def run() -> None:
        os.setgroups([GROUP])
        os.setgid(user)
        os.setuid(user)
        os.umask(mask)
        try:
            writing.send((work(), None))
        except BaseException:
            writing.send((None, traceback.format_exc()))

    reading, writing = fork.Pipe(duplex=False)
    process = fork.Process(target=run)
    process.start()
    result, error = reading.recv()
    process.join()
    assert error is None, error
    return result


def typed(*words: str) -> Callable[[], tuple[int, str]]:
    """Return work that types a command, and returns its exit status and what it printed."""

    def work() -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            return main(list(words)), out.getvalue()

    return work


def test_two_users_with_umasks_002_and_077_work_in_one_store(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as alone:
        alone.setenv("ADVUNLEARN_CACHE", str(shared / "alone"))
        # These runs also load all modules, some of which lie where only root may read them.
        expected = [advunlearn.run([*QUICK, f"seed={seed}"], shared / f"{seed}").metrics for seed in (0, 1)]

    def run(user: int, mask: int, seed: int) -> str:
        """Run as this user, and return where the models and the attacks' results came from."""

        def work() -> str:
            done = advunlearn.run([*QUICK, f"seed={seed}"], Path(tempfile.mkdtemp(dir=shared)) / "out")
            assert without_seconds(done.metrics) == without_seconds(expected[seed])
            stages = json.loads((done.folder / "manifest.json").read_text())["stages"]
            (reused,) = {stage["reused"] for stage in stages if stage["name"] != "data"}
            return "store" if reused else "computed"

        return as_user(user, mask, work)

    assert run(ANN, 0o002, 0) == "computed"
    assert run(BOB, 0o077, 0) == "store"  # he may read what she made
    shared_count = len(list(Store().entries()))
    assert run(BOB, 0o077, 1) == "computed"
    private_count = len(list(Store().entries())) - shared_count
    assert run(ANN, 0o002, 1) == "computed"  # she may not read what he made
    assert run(ANN, 0o002, 1) == "store"  # but has a copy of her own now

    status, said = as_user(ANN, 0o002, typed("store", "verify"))
    assert status == 1
    assert said.splitlines()[-1] == (
        f"{shared_count + private_count} whole, 0 damaged, {private_count} unreadable in {Store().root}"
    )
    assert said.count("who does not share it") == private_count
    status, said = as_user(BOB, 0o077, typed("store", "verify"))
    assert (status, said) == (0, f"{shared_count + 2 * private_count} whole, 0 damaged in {Store().root}\n")

    status, said = as_user(ANN, 0o002, typed("store", "prune", "--days", "0"))
    assert status == 1
    assert said.count("not deleted: it belongs to ") == private_count
    assert len(list(Store().entries())) == private_count
    assert as_user(BOB, 0o077, typed("store", "prune", "--days", "0"))[0] == 0
    assert list(Store().entries()) == []


def test_a_claim_and_a_checkpoint_of_another_user_block_nobody(shared: Path) -> None:
    store = Store()

    def leave_private_things() -> None:
        checkpoint = Checkpoint(store.checkpoints("model", KEY), 0, "key")
        checkpoint.write([1])
        private = store.area("claims") / "private"
        (store.area("claims")).mkdir(exist_ok=True)
        private.write_text("process 1 on elsewhere")  # as an older version left it

    def go_on() -> list[Any]:
        checkpoint = Checkpoint(store.checkpoints("model", KEY), 0, "key")
        before = checkpoint.read()
        checkpoint.write([2])
        with claim(store.area("claims") / "private", wait=False) as ours:
            return [before, checkpoint.read(), ours]

    make_folder(store.area("claims"))
    (store.area("claims")).chmod(0o2777)
    as_user(BOB, 0o077, leave_private_things)
    assert as_user(ANN, 0o002, go_on) == [None, [2], False]  # the claim is taken once it has been silent for a minute
    assert as_user(BOB, 0o077, go_on) == [[1], [2], False]


def test_a_dead_users_claim_is_taken_over_at_once(shared: Path) -> None:
    path = Store().area("claims") / "thing"

    def die() -> int:
        child = os.fork()
        if child == 0:
            with claim(path):
                os._exit(0)
        return os.waitpid(child, 0)[1]

    def take() -> bool:
        with claim(path, wait=False) as ours:
            return ours

    assert as_user(BOB, 0o077, die) == 0
    assert path.exists()
    assert as_user(ANN, 0o022, take)
    assert not path.exists()


def test_a_damaged_artefact_that_another_user_keeps_is_made_again_next_to_it(shared: Path) -> None:
    store = Store()

    def make() -> str:
        return store.get_or_make("model", KEY, made).digest

    digest = as_user(BOB, 0o022, make)  # the group may read it, and not move it
    (store.folder(digest) / "record.json").write_text("{}")
    assert as_user(ANN, 0o002, make) == digest
    assert as_user(ANN, 0o002, lambda: store.get_or_make("model", KEY, refuse).reused)
    status, said = as_user(ANN, 0o002, typed("store", "verify"))
    assert (status, said.splitlines()[-1].split(" in ")[0]) == (1, "1 whole, 1 damaged")


def test_who_may_not_write_is_told_so_before_the_work(shared: Path) -> None:
    store = Store()
    make_folder(store.area(Store.digest("model", KEY)[:2]))
    for folder in (store.root, *store.root.iterdir()):
        folder.chmod(0o755)

    def try_it() -> str:
        with pytest.raises(PermissionError) as refused:
            store.get_or_make("model", KEY, refuse)
        return str(refused.value.filename)

    assert as_user(ANN, 0o002, try_it).startswith(str(store.root))


def test_a_fetched_dataset_is_for_all(shared: Path) -> None:
    arrays = {"images": np.arange(12)}
    digests = {"images": array_digest(arrays["images"])}

    def fetch() -> bool:
        return bool((fetched("mine", digests, [("source", lambda: arrays)])["images"] == arrays["images"]).all())

    def find() -> bool:
        return bool((fetched("mine", digests, [])["images"] == arrays["images"]).all())

    assert as_user(BOB, 0o077, fetch)
    assert as_user(ANN, 0o002, find)


def test_in_a_sticky_store_users_reuse_and_do_not_delete_each_others_artefacts(shared: Path) -> None:
    Store().root.parent.chmod(0o3775)

    def make(name: str) -> Callable[[], bool]:
        return lambda: Store().get_or_make("model", {"name": name}, made).reused

    assert not as_user(BOB, 0o002, make("his"))
    assert as_user(ANN, 0o002, make("his"))
    assert not as_user(ANN, 0o002, make("hers"))
    status, said = as_user(ANN, 0o002, typed("store", "prune", "--days", "0"))
    assert (status, said.count("not deleted: it belongs to ")) == (1, 1)
    assert [key["name"] for key in Store().keys("model")] == ["his"]
    assert as_user(BOB, 0o002, typed("store", "prune", "--days", "0"))[0] == 0
