"""Sets of torchvision from small files in their own formats."""

from __future__ import annotations

import hashlib
import logging
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from advunlearn.data.torchvision import Torchvision
from advunlearn.options import UserError

RNG = np.random.default_rng(0)


def idx(path: Path, array: np.ndarray) -> None:
    """Write an array in MNIST's format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def mnist(folder: Path, prefix: tuple[str, str] = ("train", "t10k"), first: int = 0) -> dict[str, np.ndarray]:
    arrays = {}
    for part, name, count in (("train", prefix[0], 30), ("test", prefix[1], 12)):
        arrays[part] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        idx(folder / f"{name}-images-idx3-ubyte", arrays[part])
        idx(folder / f"{name}-labels-idx1-ubyte", (np.arange(count) % 3 + first).astype(np.uint8))
    return arrays


def test_fashion_mnist(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = mnist(workplace / "data" / "FashionMNIST" / "raw")
    dataset = Torchvision(name="FashionMNIST", root="data")
    info = dataset.info()
    assert (info.train, info.test, info.classes, info.shape) == (30, 12, (0, 1, 2), (1, 28, 28))
    pool = dataset.load()
    assert (pool.inputs[..., 0] == np.concatenate([arrays["train"], arrays["test"]])).all()
    assert pool.labels.tolist() == [*(np.arange(30) % 3), *(np.arange(12) % 3)]
    with caplog.at_level(logging.INFO):
        assert dataset.load().checksum == pool.checksum
        assert Torchvision(name="FashionMNIST", root="data", gray=False).load().inputs.shape == (42, 28, 28, 3)
    assert caplog.text.count("decoding") == 1  # only the latter
    changed = mnist(workplace / "data" / "FashionMNIST" / "raw")
    assert (dataset.load().inputs[:30, ..., 0] == changed["train"]).all()


def test_emnist_takes_a_split_of_its_own(workplace: Path) -> None:
    """Its letters are numbered from 1 on; classes are numbered from 0 on."""
    mnist(workplace / "EMNIST" / "raw", ("emnist-letters-train", "emnist-letters-test"), first=1)
    dataset = Torchvision(name="EMNIST", root=".", arguments={"split": "letters"})
    assert (dataset.info().train, dataset.info().test, dataset.info().classes) == (30, 12, (0, 1, 2))
    assert dataset.load().labels[:4].tolist() == [0, 1, 2, 0]
    with pytest.raises(UserError, match=r"^arguments do not fit EMNIST \(.*'split'\)$"):
        Torchvision(name="EMNIST", root=".").info()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar100(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workplace / "cifar-100-python"
    folder.mkdir()
    images = {
        name: RNG.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8) for name, count in (("train", 9), ("test", 6))
    }
    for name, array in images.items():
        content = {"data": array.reshape(len(array), -1), "fine_labels": (np.arange(len(array)) % 3).tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bear", "clock"]}))
    for part in images:
        monkeypatch.setattr(datasets.CIFAR100, f"{part}_list", [[part, md5(folder / part)]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": md5(folder / "meta")})
    dataset = Torchvision(name="CIFAR100", root=".")
    assert dataset.info().shape == (3, 32, 32)
    assert (dataset.load().inputs == np.concatenate([*images.values()]).transpose(0, 2, 3, 1)).all()


def test_svhn(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, changed = {}, dict(datasets.SVHN.split_list)
    for name, count in (("train", 9), ("test", 6)):
        images[name] = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        path = workplace / f"{name}_32x32.mat"
        savemat(path, {"X": images[name], "y": (np.arange(count) % 3 + 1)[:, None]})
        changed[name] = ["", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", changed)
    dataset = Torchvision(name="SVHN", root=".")
    assert (dataset.info().train, dataset.info().test) == (9, 6)
    assert (dataset.load().inputs == np.concatenate([*images.values()], axis=3).transpose(3, 0, 1, 2)).all()
    with_split = Torchvision(name="SVHN", root=".", arguments={"split": "test"})
    assert (with_split.info().train, with_split.info().test) == (6, 0)


def test_eurosat_has_one_part(workplace: Path) -> None:
    for number in range(6):
        path = workplace / "eurosat" / "2750" / ("Forest" if number % 2 else "River") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    info = Torchvision(name="EuroSAT", root=".").info()
    assert (info.train, info.test, info.shape) == (6, 0, (3, 16, 16))


@pytest.fixture
def pets(workplace: Path) -> Path:
    """Give six pets of different sizes for training and three for the test."""
    for folder in ("images", "annotations/trimaps"):
        (workplace / "oxford-iiit-pet" / folder).mkdir(parents=True)
    for part, numbers in (("trainval", range(6)), ("test", range(6, 9))):
        lines = [f"{'Abyssinian' if number % 2 else 'beagle'}_{number} {2 - number % 2} 1 1" for number in numbers]
        (workplace / "oxford-iiit-pet" / "annotations" / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
        for number, line in zip(numbers, lines, strict=True):
            pixels = RNG.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(workplace / "oxford-iiit-pet" / "images" / f"{line.split()[0]}.jpg")
    return workplace


def test_images_of_different_sizes_are_cut_to_one(pets: Path) -> None:
    dataset = Torchvision(name="OxfordIIITPet", root=".", size=16)
    info, pool = dataset.info(), dataset.load()
    assert (info.train, info.test, info.classes, info.shape) == (6, 3, (0, 1), (3, 16, 16))
    assert pool.inputs.shape == (9, 16, 16, 3)
    assert pool.labels.tolist() == [1, 0] * 4 + [1]
    with pytest.raises(UserError, match=r"name=OxfordIIITPet: example 1 has 21x30 pixels, .* \(try dataset.size=224\)"):
        Torchvision(name="OxfordIIITPet", root=".").load()


def test_colors_are_not_dropped_unasked(workplace: Path) -> None:
    """STL-10 and the like have color images only, but a set of files may begin with a gray one."""
    for number, mode in enumerate(["L", "RGB", "L"]):
        path = workplace / "photos" / ("a" if number < 2 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert(mode).save(path)
    plain = {"name": "DatasetFolder", "root": "photos", "arguments": {"extensions": [".png"], "loader": opened}}
    with pytest.raises(UserError, match=r"DatasetFolder: example 1 .* has colors, unlike the first one; try dataset"):
        Torchvision(**plain).load()  # type: ignore[arg-type]
    assert Torchvision(**plain, gray=False).load().inputs.shape == (3, 8, 8, 3)  # type: ignore[arg-type]
    assert Torchvision(**plain, gray=True).load().inputs.shape == (3, 8, 8, 1)  # type: ignore[arg-type]


def opened(path: str) -> Image.Image:
    with Image.open(path) as picture:
        return picture.copy()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "name must be that of a classification set of torchvision (try dataset.name=FashionMNIST)"),
        ({"name": "FashionMNISTs"}, "got FashionMNISTs (did you mean dataset.name=FashionMNIST?)"),
        ({"name": "FakeData"}, "name must be a classification set of torchvision, got FakeData"),
        ({"name": "SVHN", "arguments": {"parts": 3}}, "arguments do not fit SVHN"),
        ({"name": "ImageFolder", "root": "nothing"}, "root=nothing does not hold ImageFolder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(workplace: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Torchvision(**options).info()  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(UserError, match=r"^name=KMNIST could not be downloaded \(.*\); try dataset.root=FOLDER with"):
        Torchvision(name="KMNIST").info()
