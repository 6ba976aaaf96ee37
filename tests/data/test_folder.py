from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from sklearn.preprocessing import StandardScaler

from advunlearn.data import pictures
from advunlearn.data.examples import Examples, examples_of
from advunlearn.data.folder import Folder
from advunlearn.data.forget.indices import Indices
from advunlearn.data.forget.random import Random
from advunlearn.data.splits import make_splits
from advunlearn.options import UserError
from advunlearn.storage.paths import cache_folder

RNG = np.random.default_rng(0)


def save(path: Path, size: tuple[int, int] = (6, 8), mode: str = "RGB", **options: object) -> np.ndarray:
    """Write an image of random pixels; return them, (h, w, 3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)
    picture.save(path, **options)
    return np.asarray(picture.convert("RGB"))


@pytest.fixture
def root(workplace: Path) -> Path:
    """Return a folder with images of ten cats and eight dogs, some of them in a subfolder."""
    for number in range(10):
        save(workplace / "pets" / "cat" / f"{number}.png")
    for number in range(8):
        save(workplace / "pets" / "dog" / ("old" if number % 2 else "") / f"{number}.png")
    return workplace / "pets"


def test_rows_are_in_the_order_of_the_paths_and_classes_in_that_of_their_names(root: Path) -> None:
    dataset = Folder(root=str(root))
    info, pool = dataset.info(), dataset.load()
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    assert list(pool.names) == list(info.names) == files
    assert (info.train, info.test, info.classes, info.shape) == (18, 0, (0, 1), (3, 6, 8))
    assert (pool.train_rows, pool.classes, pool.images) == (18, 2, True)
    for path, image, label in zip(files, pool.inputs, pool.labels, strict=True):
        assert (image == np.asarray(Image.open(root / path))).all()
        assert label == (0 if path.startswith("cat/") else 1)


def test_a_test_part_follows_the_training_part(root: Path) -> None:
    (root / "train").mkdir()
    for name in ("cat", "dog"):
        (root / name).rename(root / "train" / name)
    shown = save(root / "test" / "dog" / "a.png")
    info, pool = Folder(root=str(root)).info(), Folder(root=str(root)).load()
    assert (info.train, info.test, pool.names[-1]) == (18, 1, "test/dog/a.png")
    assert (pool.inputs[18] == shown).all()
    assert pool.labels[18] == 1
    (root / "test").rename(root / "val")
    assert Folder(root=str(root)).info().test == 1
    save(root / "val" / "cow" / "a.png")
    with pytest.raises(UserError, match=r"root=.*pets: val/cow is a class that train/ has not"):
        Folder(root=str(root)).info()


def test_every_kind_of_image_is_read(root: Path) -> None:
    """Gray, with transparency, with a palette, CMYK, and rotated by EXIF."""
    shutil.rmtree(root / "cat")
    for number, mode in enumerate(["L", "RGBA", "P", "CMYK", "1"]):
        save(root / "cat" / f"{number}.tif", mode=mode)
    turned = Image.Exif()
    turned[0x0112] = 6  # rotated by 90 degrees
    upright = save(root / "cat" / "5.png", (8, 6), exif=turned)
    transparent = Image.fromarray(RNG.integers(0, 4, (6, 8), dtype=np.uint8), "L").convert("P")
    transparent.save(root / "cat" / "6.png", transparency=b"\x00\x80")
    pool = Folder(root=str(root)).load()
    for number in range(5):
        with Image.open(root / "cat" / f"{number}.tif") as picture:
            assert (pool.inputs[number] == np.asarray(picture.convert("RGB"))).all()
    assert (pool.inputs[5] == np.rot90(upright, -1)).all()
    gray = Folder(root=str(root), gray=True)
    assert gray.info().shape == (1, 6, 8)
    assert gray.load().inputs.shape == (15, 6, 8, 1)


def test_the_first_image_may_lie_on_its_side(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    save(root / "cat" / "0.png", (8, 6), exif=turned)
    assert Folder(root=str(root)).info().shape == (3, 6, 8)
    assert Folder(root=str(root)).load().inputs.shape == (18, 6, 8, 3)


def test_size_scales_the_shorter_side_and_cuts_out_the_middle(root: Path) -> None:
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 20:40] = 200  # the middle third
    Image.fromarray(stripes).save(root / "cat" / "0.png")
    dataset = Folder(root=str(root), size=10)
    assert dataset.info().shape == (3, 10, 10)
    assert (dataset.load().inputs[0][:, 1:-1] == 200).all()
    assert (dataset.load().inputs[0][:, [0, -1]] > 100).all()  # the border mixes both


def test_images_of_several_sizes_need_one(root: Path) -> None:
    save(root / "dog" / "0.png", (9, 8))
    with pytest.raises(
        UserError, match=r"^dataset.root=.*pets: dog/0.png has 9x8 pixels, cat/0.png has 6x8 \(try dataset.size=224\)$"
    ):
        Folder(root=str(root)).load()


def test_other_files_are_left_out_and_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("cat/notes.txt", "cat/.hidden.png", "dog/old/data.csv", "readme.png", ".git/x.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("no image")
    with caplog.at_level(logging.INFO):
        assert len(Folder(root=str(root)).load().inputs) == 18
    assert f"{root}: 18 images of the classes 0 cat, 1 dog; 2 files are no images" in caplog.text


def test_links_are_followed_but_not_in_a_circle(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    save(elsewhere / "x.png")
    (root / "cow").symlink_to(elsewhere)
    (root / "cat" / "10.png").symlink_to(elsewhere / "x.png")
    (root / "dog" / "again").symlink_to(root / "dog")
    info = Folder(root=str(root)).info()
    assert info.train == 20
    assert "cow/x.png" in info.names
    assert len(Folder(root=str(root)).load().inputs) == 20


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"no image"), "cannot be read as an image (not an image)"),
        (
            lambda path: path.write_bytes((path.parents[1] / "cat" / "1.png").read_bytes()[:150]),
            "cannot be read as an image (",
        ),
        (lambda path: path.symlink_to("nowhere.png"), "No such file or directory"),
        (os.mkfifo, "not a regular file"),
        (lambda path: Image.fromarray(np.zeros((6, 8), np.uint16)).save(path), "have more than 8 bits (mode I;16)"),
    ],
)
def test_a_file_that_is_no_image_is_named_in_one_line(root: Path, make: object, said: str) -> None:
    for name in ("cat/0.png", "dog/6.png"):  # the first one is read by `info` as well
        path = root / name
        content = path.read_bytes()
        path.unlink()
        make(path)  # type: ignore[operator]
        with pytest.raises(UserError) as caught:
            (Folder(root=str(root)).info(), Folder(root=str(root)).load())
        assert name in str(caught.value)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
        path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda root: shutil.rmtree(root), "root=pets cannot be read: pets: No such file or directory"),
        (lambda root: [shutil.rmtree(root / name) for name in ("cat", "dog")], "root=pets: must hold a folder"),
        (lambda root: (root / "empty").mkdir(), "root=pets: empty holds no image; remove it or add some (.jpg"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_line(root: Path, prepare: object, said: str) -> None:
    prepare(root)  # type: ignore[operator]
    for call in (Folder(root="pets").info, Folder(root="pets").load):
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(said)


def test_no_folder_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"^root must name a folder .* \(try dataset.root=photos\)$"):
        Folder().info()


def decoded(caplog: pytest.LogCaptureFixture) -> bool:
    """Return whether images were decoded since the last call."""
    found = "decoding" in caplog.text
    caplog.clear()
    return found


def test_images_are_decoded_once_until_a_file_changes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dataset = Folder(root=str(root))
    first = dataset.load()
    assert decoded(caplog)
    again = dataset.load()
    assert not decoded(caplog)
    assert (again.inputs == first.inputs).all()
    assert again.checksum == first.checksum
    path = root / "cat" / "3.png"
    before = path.stat()
    path.write_bytes((root / "cat" / "4.png").read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    shutil.copy(root / "cat" / "4.png", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time alone would not show the change
    changed = dataset.load()
    assert decoded(caplog)
    assert (changed.inputs[3] == changed.inputs[4]).all()
    assert changed.checksum != first.checksum
    (root / "dog" / "0.png").rename(root / "dog" / "9.png")
    assert dataset.load().names[-1] == "dog/old/7.png"
    assert decoded(caplog)
    assert Folder(root=str(root), size=4).load().inputs.shape == (18, 4, 4, 3)
    assert (
        len(list((cache_folder() / "data" / "decoded").rglob("*.npy"))) == 2
    )  # the last state for each set of options


def test_another_version_of_the_decoder_decodes_again(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    dataset = Folder(root=str(root))
    dataset.load()
    for module, name, value in ((pictures, "SCHEMA", pictures.SCHEMA + 1), (PIL, "__version__", "99.0")):
        decoded(caplog)
        monkeypatch.setattr(module, name, value)
        dataset.load()
        assert decoded(caplog)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_damaged_or_incomplete_cache_is_decoded_again(
    root: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = Folder(root=str(root)).load()
    (path,) = (cache_folder() / "data" / "decoded").rglob(f"*.{suffix}")
    good, times = path.read_bytes(), path.stat()
    for change in (b"", good[:100], bytes([*good[:200], good[200] ^ 1, *good[201:]])):
        decoded(caplog)
        (path,) = (cache_folder() / "data" / "decoded").rglob(f"*.{suffix}")
        path.write_bytes(change)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (Folder(root=str(root)).load().inputs == first.inputs).all()
        assert decoded(caplog)


def test_what_a_killed_process_left_is_removed(root: Path) -> None:
    Folder(root=str(root)).load()
    (path,) = (cache_folder() / "data" / "decoded").rglob("*.npy")
    (path.parent / f".{path.name}.1234.abcd").write_bytes(b"half of it")
    path.with_suffix(".npz").unlink()
    Folder(root=str(root)).load()
    assert sorted(each.suffix for each in path.parent.iterdir()) == [".npy", ".npz"]


def test_a_full_disk_is_said_before_and_while_images_are_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "free_disk", lambda _: 1000)
    with pytest.raises(
        UserError, match=r"0.00259 MB are needed for 18 decoded images, 0.001 MB are free \(try another"
    ):
        Folder(root=str(root)).load()
    monkeypatch.undo()
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(root.parent / "cache2"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pictures.npy, "write_array_header_1_0", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        Folder(root=str(root)).load()
    assert caught.value.filename.endswith(".npy")
    assert not list((cache_folder() / "data" / "decoded").rglob("*.np*"))


def test_a_file_that_changes_meanwhile_is_read_again_by_the_next_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, fitted = Folder(root=str(root)), Folder.fitted

    def change(self: Folder, picture: Image.Image, *, gray: bool) -> Image.Image:
        image = fitted(self, picture, gray=gray)
        shutil.copy(root / "dog" / "6.png", root / "cat" / "0.png")
        return image

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "fitted", change)
        dataset.load()
    pool = dataset.load()
    assert (pool.inputs[0] == pool.inputs[list(pool.names).index("dog/6.png")]).all()


def test_statistics_are_those_of_the_training_rows(root: Path) -> None:
    pool = Folder(root=str(root)).load()
    rows = np.array([0, 2, 3, 11, 17])
    mean, std = Folder().statistics(pool, rows) or (None, None)
    expected = StandardScaler().fit(pool.inputs[rows].reshape(-1, 3))
    np.testing.assert_allclose(mean, expected.mean_, rtol=1e-6)
    np.testing.assert_allclose(std, expected.scale_, rtol=1e-6)
    pool.moments[:] = np.array([7, 49])[:, None] * 48  # all pixels are 7
    assert [each.tolist() for each in Folder().statistics(pool, rows) or ()] == [[7.0] * 3, [1.0] * 3]


def test_batches_from_the_disk_are_those_from_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Folder(root=str(root), augment="flip_crop", crop=2)
    found: list[Examples] = []
    for most, kind in ((1 << 30, np.ndarray), (100, np.memmap)):
        monkeypatch.setattr(pictures, "IN_MEMORY", most)
        pool = dataset.load()
        assert type(pool.inputs) is kind
        splits = make_splits(pool, dataset, Random(), 0)
        found.append(examples_of(pool, dataset, splits.train, torch.device("cpu"), channels_last=False))
    memory, disk = found
    assert memory.shape == disk.shape == (3, 6, 8)
    some = torch.tensor([5, 3, 3, 17])
    for (first, labels), (second, _) in zip(memory.subset(some).batches(3), disk.subset(some).batches(3), strict=True):
        assert torch.equal(first, second)
        assert first.is_contiguous() == second.is_contiguous()
        assert len(first) == len(labels)
    draws = memory.draw(7, torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    for each in memory.cut(draws, 7):
        assert torch.equal(memory.training_batch(each)[0], disk.training_batch(each)[0])
    both = [each.followed_by(each.subset(some)) for each in found]
    assert torch.equal(both[0].prepared(), both[1].prepared())


def test_a_request_names_files_or_rows(root: Path) -> None:
    dataset, request = Folder(root=str(root)), root.parent / "request.txt"
    request.write_text("dog/old/3.png\n# by number:\n3\ncat/0.png\n", encoding="utf-8")
    pool, forget = dataset.load(), Indices(path=str(request))
    assert forget.problems(dataset.info(), 12) == []
    forgotten = make_splits(pool, dataset, forget, 0).forget
    assert [pool.names[row] for row in forgotten] == ["cat/0.png", "cat/3.png", "dog/old/3.png"]
    request.write_text("cat/11.png\n", encoding="utf-8")
    (problem,) = forget.problems(dataset.info(), 12)
    assert problem.endswith("line 1 must be a row number or the path of an image file, got cat/11.png")
    request.write_text("cat/0.png\n0\n", encoding="utf-8")
    assert forget.problems(dataset.info(), 12)[0].endswith("line 2 names row 0 again, which line 1 did")
    save(root / "test" / "cat" / "a.png")
    (root / "train").mkdir()
    for name in ("cat", "dog"):
        (root / name).rename(root / "train" / name)
    request.write_text("test/cat/a.png\n", encoding="utf-8")
    assert forget.problems(dataset.info(), 12)[0].endswith("must be a row from 0 to 17, got 18")
