"""Files that would block, never end or unpack to any size are refused in one line before they are read."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from advunlearn.cli import main
from advunlearn.config.yaml_files import read_yaml
from advunlearn.data.forget.indices import Indices
from advunlearn.data.npz import Npz
from advunlearn.evaluation.metrics_file import read_metrics
from advunlearn.options import UserError
from advunlearn.runs.state import read_manifest
from advunlearn.storage.files import UnreadableFile

Make = Callable[[Path], object]
IRREGULAR: dict[str, Make] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("mine.npz", lambda path: Npz(path=str(path)).info()),
        ("rows.txt", lambda path: Indices(path=str(path)).required_rows()),
        ("config.yaml", read_yaml),
        ("manifest.json", lambda path: read_manifest(path.parent)),
        ("metrics.json", lambda path: read_metrics(path.parent)),
    ],
)
def test_only_regular_files_are_read(tmp_path: Path, kind: str, name: str, reader: Make) -> None:
    IRREGULAR[kind](tmp_path / name)
    with pytest.raises(
        UserError, match=r"not a regular file|Too many levels of symbolic links|does not hold a finished"
    ):
        reader(tmp_path / name)


@pytest.mark.parametrize("words", [["dataset=npz", "dataset.path=pipe"], ["forget=indices", "forget.path=pipe"]])
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_pipe_does_not_block_a_command(
    workplace: Path, capsys: pytest.CaptureFixture[str], verb: str, words: list[str]
) -> None:
    os.mkfifo(workplace / "pipe")
    assert main([verb, *words]) == 2
    assert capsys.readouterr().err == f"error: {words[1]} cannot be read: not a regular file\n"


def test_an_options_file_that_is_a_pipe_does_not_block(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "my" / "unlearner").mkdir(parents=True)
    os.mkfifo(workplace / "my" / "unlearner" / "mine.yaml")
    assert main(["check", "--config-dir", "my", "unlearner=mine"]) == 2
    assert capsys.readouterr().err.endswith("my/unlearner/mine.yaml: not a regular file\n")


def write(path: Path, arrays: dict[str, tuple[dict[str, object], bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    """Write an npz file with these headers, whatever follows them."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, (header, content) in arrays.items():
            start = io.BytesIO()
            npy.write_array_header_1_0(start, header)
            archive.writestr(f"{name}.npy", start.getvalue() + content)


def header(shape: tuple[int, ...], kind: str) -> dict[str, object]:
    return {"descr": kind, "fortran_order": False, "shape": shape}


def peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_labels_that_unpack_to_gigabytes_are_refused_without_unpacking(tmp_path: Path) -> None:
    """Both arrays are as large as their headers say, in a file of a few hundred kilobytes."""
    path, count = tmp_path / "bomb.npz", 40_000_000
    images, labels = header((count, 1, 1), "|u1"), header((count,), "<i8")
    write(path, {"images": (images, bytes(count)), "labels": (labels, bytes(8 * count))})
    assert path.stat().st_size < 500_000
    dataset = Npz(path=str(path), max_size="300MB")

    def refused() -> None:
        with pytest.raises(UserError, match=r"unpacks to 0.36 GB, more than max_size=300MB \(try dataset.max_size=1GB"):
            dataset.info()

    assert peak(refused) < 10 << 20
    assert peak(lambda: Npz(path=str(path), max_size="1GB").info()) < 10 << 20  # labels are read a piece at a time
    assert Npz(path=str(path), max_size="1GB").info().train == count


@pytest.mark.parametrize("shape", [(10**15, 1, 1), (10**15,), (-3, 4, 4)])
def test_a_header_that_claims_more_than_there_is_reserves_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "x.npz"
    images = header(shape if len(shape) == 3 else (*shape, 1, 1), "|u1")
    write(path, {"images": (images, bytes(9)), "labels": (header(shape[:1], "<i8"), bytes(72))})

    def refused() -> None:
        with pytest.raises(UserError, match=r"^path=.*x.npz: (damaged: images has 9 bytes for|.*must be|damaged or)"):
            Npz(path=str(path)).info()

    assert peak(refused) < 10 << 20


def test_a_directory_that_claims_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    parts = {"images": (header((9, 4, 4), "|u1"), bytes(144)), "labels": (header((9,), "<i8"), bytes(72))}
    write(path, parts, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1 << 31)  # the size in the directory
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: images has 2,147,483,\d+ bytes for uint8 \(9, 4, 4\)"):
        Npz(path=str(path)).info()


def test_a_broken_stream_is_one_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for part in ("labels", "images"):
        images, labels = rng.integers(0, 256, (60, 8, 8), np.uint8), rng.integers(0, 3, 60)
        np.savez_compressed("x.npz", images=images, labels=labels)
        with zipfile.ZipFile("x.npz") as archive:
            about = archive.getinfo(f"{part}.npy")
        content = bytearray(Path("x.npz").read_bytes())
        middle = about.header_offset + 60 + about.compress_size // 2
        content[middle : middle + 20] = b"\xff" * 20
        Path("x.npz").write_bytes(content)
        for verb in ("check", "run"):
            assert main([verb, "dataset=npz", "dataset.path=x.npz"]) == 2
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith("error: dataset.path=x.npz: damaged or not an npz file (")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_numpy_does_not_write_is_refused(tmp_path: Path, method: int) -> None:
    write(tmp_path / "x.npz", {"images": (header((9, 4, 4), "|u1"), bytes(144))}, method)
    with pytest.raises(UserError, match="compressed as numpy does not compress"):
        Npz(path=str(tmp_path / "x.npz")).info()


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros((9, 4, 4), np.uint8), labels=np.arange(9))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged or not an npz file \(.*encrypted"):
        Npz(path=str(path)).info()


def test_a_size_that_is_none_is_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "dataset=npz", "dataset.path=x", "dataset.max_size=much"]) == 2
    line = "error: dataset.max_size must be a size such as 2GB or 500MB, got much\n"
    assert capsys.readouterr().err == line


def test_a_file_of_rows_is_read_a_line_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    with path.open("wb") as file:
        file.seek(1 << 30)  # a gigabyte of zero bytes, and no line end
        file.write(b"1")

    def refused() -> None:
        with pytest.raises(UserError, match="line 1 is longer than 999 characters"):
            Indices(path=str(path)).required_rows()

    assert peak(refused) < 1 << 20


def test_a_huge_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.seek(1 << 33)
        file.write(b"}")

    def refused() -> None:
        with pytest.raises(UnreadableFile, match="larger than 32 MiB"):
            read_manifest(tmp_path)

    assert peak(refused) < 100 << 20


def test_a_few_lines_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    (tmp_path / "own.yaml").write_text("\n".join(lines), encoding="utf-8")

    def refused() -> None:
        with pytest.raises(UnreadableFile, match="holds more than 20,000 values, with each use of an anchor counted"):
            read_yaml(tmp_path / "own.yaml")

    assert peak(refused) < 10 << 20
