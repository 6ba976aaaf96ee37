"""A disk that fills up, for real: a small one in memory, and a ballast that leaves so many bytes of it."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import zeros

import advunlearn
from advunlearn.cli import main
from advunlearn.data.fetch import array_digest, fetched
from advunlearn.runs.manifest import Manifest, Stage
from advunlearn.storage.files import atomic_write
from advunlearn.storage.store import Store
from tests.conftest import Command
from tests.test_run import without_seconds

QUICK = ["optimizer.epochs=1", "unlearner.epochs=1", "attack=[threshold,lira]", "attack.shadows=2"]
STAGES = ("data", "pretrain", "retrain", "unlearn", "attack", "report")
PAGE = 4096


class Disk:
    """A file system of 16 MB in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def leave(self, free: int) -> None:
        """Fill the disk but for so many bytes."""
        self.ballast.unlink(missing_ok=True)
        status = os.statvfs(self.folder)
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - free))

    def clear(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_sound(store: Store) -> None:
    for entry in store.entries():
        store.read(entry.digest)
    assert [path for name in ("claims", "drafts", "damaged") for path in (store.root / name).glob("*")] == []


@pytest.mark.usefixtures("pictures")
def test_a_disk_that_fills_up_in_any_stage_is_said_and_the_same_command_goes_on(
    workplace: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    unbroken = advunlearn.run(QUICK).metrics
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(disk.folder / "cache"))
    (disk.folder / "work").mkdir()
    monkeypatch.chdir(disk.folder / "work")
    whole_stage, reached = Manifest.stage, []

    @contextlib.contextmanager
    def filling_stage(manifest: Manifest, name: str) -> Iterator[Stage]:
        reached.append(name)
        if name == full_in:
            disk.leave(free)
        with whole_stage(manifest, name) as stage:
            yield stage

    monkeypatch.setattr(Manifest, "stage", filling_stage)
    for full_in in STAGES:
        for free in (0, 4 * PAGE):  # at the stage's first write, or at a later one
            reached.clear()
            with pytest.raises(OSError, match="No space left on device") as error:
                advunlearn.run(QUICK)
            assert error.value.errno == errno.ENOSPC
            assert Path(error.value.filename).absolute().is_relative_to(disk.folder)
            assert reached[-1] == full_in or free
            disk.clear()
            assert_sound(Store())
    full_in = ""
    assert without_seconds(advunlearn.run(QUICK).metrics) == without_seconds(unbroken)
    assert_sound(Store())
    said = capfd.readouterr().err
    assert "Logging error" not in said
    assert "ignored" not in said  # exceptions in destructors


def test_the_command_line_says_it_in_one_line(command: Command, workplace: Path, disk: Disk) -> None:
    store = disk.folder / "store"
    disk.leave(64 * PAGE)
    words = ["run", *QUICK, "attack=threshold", "hydra.run.dir=out"]
    done = command(*words, ADVUNLEARN_CACHE=str(disk.folder))
    assert done.returncode == 1
    (said,) = (line for line in done.stderr.splitlines() if "error:" in line.lower())
    assert said.startswith(f"error: no space left on {store}")
    assert said.endswith("; free some (advunlearn store prune), and repeat the command")
    assert "Traceback" not in done.stderr
    assert "Traceback" in (workplace / "out" / "advunlearn.log").read_text()
    assert_sound(Store(store))

    disk.leave(6 * PAGE)  # enough for what Hydra writes before the run; then its log and manifest fail as well
    done = command(*words[:-1], f"hydra.run.dir={disk.folder}/out")
    assert done.returncode == 1
    assert [line.split(";")[0] for line in done.stderr.splitlines() if "error:" in line.lower()] == [
        f"error: no space left on {disk.folder}/out"
    ]
    assert "Logging error" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_can_be_pruned(workplace: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(disk.folder))
    advunlearn.run([*QUICK, "attack=threshold"])
    disk.leave(0)
    assert main(["store", "prune", "--days", "0"]) == 0
    assert list(Store().entries()) == []


def test_what_was_there_before_stays_whoever_writes(disk: Disk) -> None:
    path = disk.folder / "file"
    path.write_text("before")
    disk.leave(8 * PAGE)
    large = np.zeros(10 * PAGE)

    def with_numpy(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, large)

    def with_numpy_zip(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, large)

    def with_safetensors(temporary: Path) -> None:
        save_file({"large": zeros(10 * PAGE)}, temporary)

    def with_python(temporary: Path) -> None:
        temporary.write_bytes(bytes(10 * PAGE))

    for write in (with_numpy, with_numpy_zip, with_safetensors, with_python):
        with pytest.raises(OSError, match="No space left") as error, atomic_write(path) as temporary:
            write(temporary)
        assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
        assert path.read_text() == "before"
        assert sorted(each.name for each in disk.folder.iterdir()) == ["ballast", "file"]


def test_a_dataset_that_does_not_fit_is_fetched_again(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(disk.folder))
    images = np.arange(20 * PAGE)
    arrays = {"labels": images[:10], "images": images}
    digests = {name: array_digest(array) for name, array in arrays.items()}
    disk.leave(8 * PAGE)
    with pytest.raises(OSError, match="No space left on device"):
        fetched("mine", digests, [("source", lambda: arrays)])
    disk.clear()
    assert array_digest(fetched("mine", digests, [("source", lambda: arrays)])["images"]) == digests["images"]
    assert sorted(path.name for path in (disk.folder / "data").rglob("*")) == ["images.npy", "labels.npy", "mine"]
