"""Symbolic links and pipes in the store: nothing elsewhere is changed, nothing is waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advunlearn.cli import main
from advunlearn.data.fetch import array_digest, fetched
from advunlearn.options import UserError
from advunlearn.storage.artefacts import Damaged
from advunlearn.storage.locks import claim, seems_held
from advunlearn.storage.prune import prune
from advunlearn.storage.store import Store
from tests.storage.test_shared import QUICK
from tests.storage.test_store import KEY, made, refuse


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Give a folder with files whose names are the store's own, and check that none of them is changed."""
    folder = tmp_path / "elsewhere"
    digest = Store.digest("model", KEY)
    for name in (digest, f"{digest[:16]}-1-0123abcd", f"{digest[:16]}-0123abcd"):
        (folder / name).mkdir(parents=True)
        for file in ("record.json", f"{'0' * 64}.safetensors"):
            (folder / name / file).write_text("years of work")
            os.utime(folder / name / file, (0, 0))
        os.utime(folder / name, (0, 0))
    before = {path: path.lstat().st_mtime for path in folder.rglob("*")}
    yield folder
    assert {path: path.lstat().st_mtime for path in folder.rglob("*")} == before


PREFIX = Store.digest("model", KEY)[:2]


@pytest.mark.parametrize("area", ["claims", "drafts", PREFIX])
def test_a_folder_of_the_store_that_is_a_link_is_refused_by_a_run(tmp_path: Path, elsewhere: Path, area: str) -> None:
    store = Store(tmp_path / "store")
    store.root.mkdir()
    (store.root / area).symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"^{store.root / area} is a symbolic link, which the store does not follow"):
        store.get_or_make("model", KEY, made)


@pytest.mark.parametrize("area", ["claims", "drafts", "damaged", "checkpoints", PREFIX])
def test_and_by_prune_in_one_line(
    workplace: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str], area: str
) -> None:
    root = Store().root
    root.mkdir(parents=True)
    (root / area).symlink_to(elsewhere)
    assert main(["store", "prune", "--days", "0"]) == 1
    line = f"error: {root / area} is a symbolic link, which the store does not follow; remove it (rm {root / area})\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("area", ["drafts", "damaged", "checkpoints", PREFIX])
def test_of_a_link_in_such_a_folder_prune_deletes_the_link(tmp_path: Path, elsewhere: Path, area: str) -> None:
    store = Store(tmp_path / "store")
    digest = Store.digest("model", KEY)
    name = {"drafts": f"{digest[:16]}-1-0123abcd", "damaged": f"{digest[:16]}-0123abcd"}.get(area, digest)
    (store.root / area).mkdir(parents=True)
    (store.root / area / name).symlink_to(elsewhere / name)
    os.utime(store.root / area / name, (0, 0), follow_symlinks=False)
    assert [gone for _, gone in prune(store, days=0)] == [True]
    assert not os.path.lexists(store.root / area / name)


def test_an_artefact_that_is_a_link_is_set_aside_and_made_again(tmp_path: Path, elsewhere: Path) -> None:
    store = Store(tmp_path / "store")
    digest = Store.digest("model", KEY)
    store.folder(digest).parent.mkdir(parents=True)
    store.folder(digest).symlink_to(elsewhere / digest)
    with pytest.raises(Damaged, match="not a folder"):
        store.read(digest)
    assert not store.get_or_make("model", KEY, made).reused
    assert store.get_or_make("model", KEY, refuse).reused
    assert [path.is_symlink() for path in (store.root / "damaged").iterdir()] == [True]


def link_to_a_whole_one(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.symlink_to("away")


def put_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["complete.json", "record.json", "tensors.safetensors"])
@pytest.mark.parametrize("plant", [link_to_a_whole_one, put_a_pipe])
def test_a_file_of_an_artefact_that_is_a_link_or_a_pipe_is_damage(
    tmp_path: Path, plant: Callable[[Path], None], name: str
) -> None:
    store = Store(tmp_path)
    digest = store.get_or_make("model", KEY, made).digest
    plant(store.folder(digest) / name)
    with pytest.raises(Damaged, match=f"{name} is not a regular file"):
        store.read(digest)
    assert [entry.digest for entry in store.entries()] == [digest]


def test_a_run_whose_checkpoint_is_a_link_ends_in_one_line_and_deletes_nothing(
    workplace: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of = Store.checkpoints

    def planted(store: Store, kind: str, key: Any) -> Path:
        folder = folder_of(store, kind, key)
        if not folder.is_symlink():
            folder.symlink_to(elsewhere / Store.digest("model", KEY))
        return folder

    monkeypatch.setattr(Store, "checkpoints", planted)
    assert main(["run", *QUICK, "checkpoint_seconds=0"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {Store().root}/checkpoints/")
    assert " is a symbolic link, which the store does not follow; remove it" in said


def test_a_store_that_is_a_link_itself_works_as_any_other(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large disk").mkdir()
    Store().root.parent.mkdir()
    Store().root.symlink_to(tmp_path / "large disk")
    Store().get_or_make("model", KEY, made)
    assert main(["store", "verify"]) == 0
    assert main(["store", "prune", "--days", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f" deleted, 0.00 MB left in {Store().root}")
    assert list(Store().entries()) == []


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to(path.parent / "notes"), os.mkdir])
def test_a_claim_that_is_no_file_is_refused_and_what_it_points_to_kept(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    notes = tmp_path / "notes"
    notes.write_text(f"process 1 on {os.uname().nodename}")  # which a claim's file of the dead says as well
    plant(tmp_path / "claim")
    with pytest.raises(UserError, match="is not a regular file; remove it"), claim(tmp_path / "claim"):
        raise AssertionError
    assert not seems_held(tmp_path / "claim")
    assert notes.read_text() == f"process 1 on {os.uname().nodename}"


def test_a_dataset_of_the_cache_that_is_a_link_is_read_and_never_written(workplace: Path, tmp_path: Path) -> None:
    arrays = {"images": np.arange(12)}
    folder, link = tmp_path / "datasets", Store().root.parent / "data" / "mine"
    folder.mkdir()
    np.save(folder / "images.npy", arrays["images"])
    link.parent.mkdir(parents=True)
    link.symlink_to(folder)
    before = (folder / "images.npy").read_bytes()
    assert (fetched("mine", {"images": array_digest(arrays["images"])}, [])["images"] == arrays["images"]).all()
    other = {"images": np.arange(13)}
    with pytest.raises(UserError, match=f"^{link} is a symbolic link"):
        fetched("mine", {"images": array_digest(other["images"])}, [("source", lambda: other)])
    assert (folder / "images.npy").read_bytes() == before
