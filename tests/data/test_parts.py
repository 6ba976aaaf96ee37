"""A dataset in parts: the same arrays and the same run; anything wrong is one line that names the file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.data import catalogue, parts
from advunlearn.data.dataset import Dataset, DatasetInfo, Pool
from advunlearn.data.fetch import Arrays, add_to_cache, array_digest, cached
from advunlearn.runs.manifest import Manifest
from advunlearn.train import run_experiment

RNG = np.random.default_rng(0)
ARRAYS: Arrays = {
    "train_images": RNG.integers(0, 256, (1200, 9, 8, 3), dtype=np.uint8),
    "test_images": RNG.integers(0, 256, (300, 9, 8, 3), dtype=np.uint8),
    "train_labels": np.arange(1200, dtype=np.uint8) % 5,
    "test_labels": np.arange(300, dtype=np.uint8) % 5,
}


@dataclass
class Tiny(Dataset):
    """Noise, in the form of a fetched dataset."""

    digests: ClassVar[dict[str, str]] = {name: array_digest(array) for name, array in ARRAYS.items()}

    def info(self) -> DatasetInfo:
        return DatasetInfo(1200, 300, tuple(range(5)), (3, 9, 8))

    def load(self) -> Pool:
        arrays = cached("tiny", self.digests)
        assert arrays is not None
        images = np.concatenate([arrays["train_images"], arrays["test_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["test_labels"]]).astype(np.int64)
        return Pool(images, labels, 1200, 5)

    @classmethod
    def status(cls) -> str:
        return "here" if cached("tiny", cls.digests) else "not here"


@pytest.fixture
def packed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with three parts of the dataset `tiny`, which is not in the cache."""
    monkeypatch.setattr(catalogue, "datasets", lambda: {"tiny": Tiny})
    paths = parts.pack("tiny", ARRAYS, workplace / "parts", 160_000)
    assert [path.name for path in paths] == [f"tiny-{number}-of-3.zip" for number in (1, 2, 3)]
    return workplace / "parts"


def problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Unpack the folder, which must fail with exit status 1, one line and nothing in the cache; return the line."""
    assert main(["data", "unpack", str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert cached("tiny", Tiny.digests) is None
    return line.removeprefix("error: ")


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files of a part."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def about(path: Path, **changes: object) -> None:
    rewritten(
        path, lambda files: files.update({"part.json": json.dumps(json.loads(files["part.json"]) | changes).encode()})
    )


def with_block(path: Path, content: bytes, suffix: str) -> None:
    """Put other bytes in the place of a block, with the right SHA-256."""

    def change(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith(suffix))
        said = json.loads(files["part.json"])
        said["blocks"][name] = hashlib.sha256(content).hexdigest()
        files |= {name: content, "part.json": json.dumps(said).encode()}

    rewritten(path, change)


def test_parts_hold_the_same_arrays_in_no_more_than_their_size(packed: Path) -> None:
    assert all(path.stat().st_size <= 160_000 for path in packed.iterdir())
    found = parts.find(packed)
    arrays = parts.unpack(found["tiny"], Tiny.digests, Tiny().info())
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_packing_again_makes_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    for path in parts.pack("tiny", ARRAYS, tmp_path / "again", 160_000):
        assert path.read_bytes() == (packed / path.name).read_bytes()


def test_grey_images_survive(tmp_path: Path) -> None:
    grey = {"images": RNG.integers(0, 256, (700, 12, 16, 1), dtype=np.uint8), "labels": np.arange(700)}
    parts.pack("grey", grey, tmp_path, 10**6)
    digests = {name: array_digest(array) for name, array in grey.items()}
    arrays = parts.unpack(parts.find(tmp_path)["grey"], digests, DatasetInfo(700, 0, (0,), (1, 12, 16)))
    np.testing.assert_array_equal(arrays["images"], grey["images"])


def test_a_run_from_parts_has_the_numbers_of_a_run_from_the_fetched_data(
    packed: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "my" / "dataset").mkdir(parents=True)
    (workplace / "my" / "dataset" / "tiny.yaml").write_text("_target_: tests.data.test_parts.Tiny\n")
    words = ["dataset=tiny", "dataset.train_size=60", "attack=threshold", "optimizer.epochs=2", "unlearner.epochs=1"]

    def metrics(cache: str) -> dict[str, object]:
        with Manifest(workplace / cache) as manifest:
            found = run_experiment(experiment_from([*words, "device=cpu"], "my"), manifest).metrics
        return {name: found[name] for name in ("models", "gap")}

    monkeypatch.setenv("ADVUNLEARN_CACHE", str(workplace / "fetched"))
    add_to_cache("tiny", ARRAYS)
    fetched = metrics("first")
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(workplace / "unpacked"))
    assert Tiny.status() == "not here"
    assert main(["data", "unpack", str(packed)]) == 0
    assert capsys.readouterr().out == "tiny: here\n"
    assert metrics("second") == fetched


def test_a_missing_part_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (packed / "tiny-2-of-3.zip").unlink()
    assert problem(packed, capsys) == f"{packed}: tiny-2-of-3.zip is missing"


def test_a_folder_without_parts(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "empty").mkdir()
    assert problem(workplace / "empty", capsys).startswith(f"{workplace / 'empty'} holds no parts")
    assert main(["data", "unpack", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: nowhere: no such folder\n"


@pytest.mark.parametrize("cut", [0, 10, 70_000, -1])
def test_a_part_that_was_cut_off_is_named(packed: Path, capsys: pytest.CaptureFixture[str], cut: int) -> None:
    path = packed / "tiny-1-of-3.zip"
    path.write_bytes(path.read_bytes()[:cut])
    assert problem(packed, capsys).startswith(f"{path} is damaged")


@pytest.mark.parametrize("position", [500, 40_000, 90_000])
def test_a_flipped_bit_is_found(packed: Path, capsys: pytest.CaptureFixture[str], position: int) -> None:
    path = packed / "tiny-2-of-3.zip"
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)
    assert problem(packed, capsys).startswith(str(path))


def test_parts_of_two_packings_are_not_mixed(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ARRAYS | {"test_labels": ARRAYS["test_labels"][::-1]}
    paths = parts.pack("tiny", other, packed.parent / "other", 160_000)
    shutil.copy(paths[1], packed / paths[1].name)
    assert "were packed differently" in problem(packed, capsys)


def test_whole_parts_of_other_arrays_are_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed.parent / "other"
    parts.pack("tiny", ARRAYS | {"test_labels": ARRAYS["test_labels"][::-1]}, folder, 10**6)
    assert problem(folder, capsys) == f"{folder}: test_labels are not those of tiny"


def test_a_dataset_that_is_not_known_is_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packed.parent / "other"
    parts.pack("cifar1000", ARRAYS, folder, 10**6)
    assert problem(folder, capsys).endswith("this version does not know the dataset cifar1000")


def test_a_zip_file_that_is_no_part_is_named(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(packed / "holiday.zip", "w") as archive:
        archive.writestr("beach.txt", "sun")
    assert problem(packed, capsys).startswith(f"{packed / 'holiday.zip'} is not a part of a dataset")


def test_a_part_under_another_name_is_refused(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(packed / "tiny-1-of-3.zip", packed / "tiny-1-of-3 (1).zip")
    assert "must have the name in its part.json" in problem(packed, capsys)


def test_a_pipe_is_refused_and_not_waited_for(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(packed / "pipe.zip")
    assert problem(packed, capsys) == f"{packed / 'pipe.zip'} is not a file"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "its format is 2, this version reads 1"),
        ({"blocks": {"x.npy": "0"}}, "its files are not those that part.json names"),
        ({"blocks": 3}, "is not a part of a dataset"),
        ({"number": "one"}, "is not a part of a dataset"),
        ({"number": 2}, "must have the name in its part.json"),
    ],
)
def test_a_wrong_description_is_one_line(
    packed: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], said: str
) -> None:
    about(packed / "tiny-1-of-3.zip", **changes)
    line = problem(packed, capsys)
    assert line.startswith(str(packed / "tiny-1-of-3.zip"))
    assert said in line


def picture(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "WEBP", lossless=True)
    return file.getvalue()


def huge_array() -> bytes:
    """Return an npy file whose header asks for a terabyte."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": (2**40,), "fortran_order": False, "descr": "|u1"})
    return file.getvalue()


@pytest.mark.parametrize(
    ("number", "content", "suffix", "said"),
    [
        (1, picture(9, 7), ".webp", "a picture of 9x7 pixels, not images of 9x8"),
        (1, picture(10, 8), ".webp", "a picture of 10x8 pixels, not images of 9x8"),
        (1, picture(9 * 1819, 8), ".webp", "is more than the 1,500 images of this dataset"),
        (1, b"RIFF", ".webp", "cannot be read"),
        (3, huge_array(), ".npy", "its header does not fit its size"),
        (3, b"x" * 10**6, ".npy", "is larger than it can be"),
        (3, b"\x93NUMPY", ".npy", "cannot be read"),
    ],
)
def test_a_block_is_not_decoded_beyond_its_dataset(
    packed: Path, capsys: pytest.CaptureFixture[str], number: int, content: bytes, suffix: str, said: str
) -> None:
    path = packed / f"tiny-{number}-of-3.zip"
    with_block(path, content, suffix)
    line = problem(packed, capsys)
    assert line.startswith(str(path))
    assert said in line


def test_what_is_packed_must_be_in_the_cache_and_fit(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalogue, "datasets", lambda: {"tiny": Tiny})

    def line(*words: str) -> str:
        assert main(["data", "pack", *words]) != 0
        (found,) = capsys.readouterr().err.splitlines()
        return found

    assert line("tiny", "parts") == "error: tiny is not in the cache (advunlearn data fetch tiny)"
    add_to_cache("tiny", ARRAYS)
    assert line("digits", "parts") == "error: digits is not a dataset that is fetched; choose one of tiny"
    assert line("tiny", "parts", "--part-size", "big").startswith("error: --part-size must be a size such as 20GB")
    assert line("tiny", "parts", "--part-size", "5KB").startswith("error: --part-size is too small")
    assert not (workplace / "parts").exists()
    (workplace / "taken").mkdir()
    (workplace / "taken" / "other.zip").write_text("")
    assert line("tiny", "taken") == "error: taken/other.zip is in the way; choose an empty folder"
    assert main(["data", "pack", "tiny", "parts", "--part-size", "1MB"]) == 0
    assert capsys.readouterr().out.startswith("parts/tiny-1-of-1.zip")
