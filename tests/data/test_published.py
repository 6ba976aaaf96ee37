"""Public datasets, each from a tiny archive in its real format, whose digest stands in for the published one."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from advunlearn.cli import main
from advunlearn.config.compose import experiment_from
from advunlearn.data import fashion_mnist, fetch
from advunlearn.data.cifar100 import Cifar100
from advunlearn.data.fashion_mnist import FashionMnist
from advunlearn.data.fetch import array_digest, has_digest
from advunlearn.data.idx import FILES, read_idx
from advunlearn.data.mnist import Mnist
from advunlearn.data.published import Published
from advunlearn.data.svhn import Svhn
from advunlearn.data.tiny_imagenet import TinyImagenet
from advunlearn.options import ConfigError, UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.training.fit import first_logits
from tests.data.test_torchvision import idx

RNG = np.random.default_rng(0)
Patch = pytest.MonkeyPatch


def known(patch: Patch, cls: type[Published], folder: Path, rows: tuple[int, int]) -> None:
    """Let a dataset of archives take the files in a folder for the published ones."""
    digests = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in cls.files}
    patch.setattr(cls, "digests", {name: f"md5:{digest}" for name, digest in digests.items()})
    patch.setattr(cls, "rows", rows)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def cifar100(folder: Path, patch: Patch, first: Any = None) -> dict[str, np.ndarray]:
    """Write the archive of CIFAR-100 with 200 and 100 images; return the images (n, h, w, c)."""
    images = {}
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as archive:
        for part, count in (("train", 200), ("test", 100)):
            data = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
            images[part] = np.stack([data[:, :1024], data[:, 1024:2048], data[:, 2048:]], -1).reshape(-1, 32, 32, 3)
            fine = list(range(100)) * (count // 100)
            about = {
                "data": data if first is None else first,
                "fine_labels": fine,
                "coarse_labels": [n % 20 for n in fine],
            }
            add(archive, f"cifar-100-python/{part}", pickle.dumps(about, protocol=2))
    known(patch, Cifar100, folder, (200, 100))
    return images


def svhn(folder: Path, patch: Patch) -> np.ndarray:
    """Write the two files of SVHN with 60 and 40 images; return the training images (n, h, w, c)."""
    for name, count in (("test", 40), ("train", 60)):
        images = RNG.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        digits = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / f"{name}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": digits}, do_compression=True)
    known(patch, Svhn, folder, (60, 40))
    return images


def tiny_imagenet(folder: Path, patch: Patch) -> None:
    """Write the archive of Tiny ImageNet with one training and one validation image for each of 200 classes."""
    with zipfile.ZipFile(folder / "tiny-imagenet-200.zip", "w") as archive:
        lines = []
        for number in range(200):
            file = io.BytesIO()
            Image.new("RGB" if number else "L", (64, 64), number).save(file, "JPEG")
            name = f"n{number:08d}"
            archive.writestr(f"tiny-imagenet-200/train/{name}/images/{name}_0.JPEG", file.getvalue())
            archive.writestr(f"tiny-imagenet-200/val/images/val_{199 - number}.JPEG", file.getvalue())
            lines.append(f"val_{199 - number}.JPEG\t{name}\t0\t0\t62\t62\n")
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
        archive.writestr("tiny-imagenet-200/test/images/test_0.JPEG", b"")
    known(patch, TinyImagenet, folder, (200, 200))


def mnist(folder: Path, patch: Patch, cls: type[Published] = Mnist, *, packed: bool = True) -> dict[str, np.ndarray]:
    """Write the four files of MNIST with 60 and 40 images; return the arrays, by the names of the digests."""
    arrays = {}
    for part, count in (("train", 60), ("test", 40)):
        arrays[f"{part}_images"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 10).astype(np.uint8)
    for key, array in arrays.items():
        path = folder / FILES[key].removesuffix(".gz")
        idx(path, array)
        if packed:
            path.with_name(FILES[key]).write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    patch.setattr(cls, "digests", {key: array_digest(array) for key, array in arrays.items()})
    patch.setattr(cls, "rows", (60, 40))
    return arrays


@pytest.fixture
def folder(workplace: Path) -> Path:
    """Give an empty folder for the files, in an empty current directory."""
    (workplace / "files").mkdir()
    return workplace / "files"


def test_cifar100_has_fine_and_coarse_labels(folder: Path, monkeypatch: Patch) -> None:
    images = cifar100(folder, monkeypatch)
    pool = Cifar100(path=str(folder)).load()
    assert (pool.inputs == np.concatenate([images["train"], images["test"]])).all()
    assert pool.labels.tolist() == [*range(100)] * 3
    assert (pool.train_rows, pool.classes) == (200, 100)
    coarse = Cifar100(path=str(folder), labels="coarse")
    assert coarse.load().labels.tolist() == [*range(20)] * 15
    assert coarse.info().classes == tuple(range(20))


def test_a_pickle_of_anything_but_arrays_is_refused(folder: Path, monkeypatch: Patch) -> None:
    class Code:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (print, ("code of the file runs",))

    cifar100(folder, monkeypatch, Code())
    with pytest.raises(pickle.UnpicklingError, match="print is no part of an array"):
        Cifar100(path=str(folder)).load()


def test_svhn_numbers_the_digit_zero_by_zero(folder: Path, monkeypatch: Patch) -> None:
    images = svhn(folder, monkeypatch)
    pool = Svhn(path=str(folder)).load()
    assert (pool.inputs[:60] == images).all()
    assert pool.labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_tiny_imagenet_matches_images_and_annotations(folder: Path, monkeypatch: Patch) -> None:
    tiny_imagenet(folder, monkeypatch)
    pool = TinyImagenet(path=str(folder)).load()
    assert pool.inputs.shape == (400, 64, 64, 3)
    assert pool.labels.tolist() == [*range(200)] * 2
    assert (pool.inputs[:200] == pool.inputs[200:]).all()


@pytest.mark.parametrize(("cls", "packed"), [(Mnist, True), (Mnist, False), (FashionMnist, True)])
def test_mnist(folder: Path, monkeypatch: Patch, cls: type[Published], packed: bool) -> None:
    arrays = mnist(folder, monkeypatch, cls, packed=packed)
    pool = cls(path=str(folder)).load()
    assert (pool.inputs[..., 0] == np.concatenate([arrays["train_images"], arrays["test_images"]])).all()
    assert pool.labels.tolist() == [*range(10)] * 10


@pytest.mark.parametrize("content", [b"", b"\0\0\x0d\1\0\0\0\1abcd", b"\0\0\x08\1\0\0\0\5abcd", b"\x1f\x8bno gzip"])
def test_what_is_not_in_mnists_format_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, OSError, EOFError)):
        read_idx(content)


def test_other_content_than_the_published_is_refused(folder: Path, monkeypatch: Patch) -> None:
    svhn(folder, monkeypatch)
    (folder / "test_32x32.mat").write_bytes(b"other bytes")
    with pytest.raises(UserError, match=r"test_32x32.mat are not those of svhn\); download http://ufldl.stanford.edu/"):
        Svhn(path=str(folder)).load()


def test_an_archive_of_other_images_is_refused(folder: Path, monkeypatch: Patch) -> None:
    cifar100(folder, monkeypatch)
    monkeypatch.setattr(Cifar100, "rows", (200, 90))
    with pytest.raises(
        UserError, match=r"^cifar100: its files hold \(100, 32, 32, 3\) in 100 classes, expected \(90, "
    ):
        Cifar100(path=str(folder)).load()


def test_a_folder_without_the_files_is_reported_before_any_work(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        experiment_from(["dataset=svhn", f"dataset.path={folder}"])
    wanted = "must be a folder that holds train_32x32.mat and test_32x32.mat"
    assert error.value.problems == [f"dataset.path={folder} {wanted}"]


class Answer(io.BytesIO):
    length = None


def test_files_are_downloaded_once_from_the_first_server_that_has_them(
    folder: Path, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    mnist(folder, monkeypatch)
    asked = []

    def urlopen(request: Any, timeout: float) -> Answer:
        asked.append(request.full_url)
        if "ossci" in request.full_url:
            raise OSError("Name or service not known")
        return Answer((folder / request.full_url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    first = Mnist().load()
    assert len(asked) == 1 + len(FILES)
    assert Mnist().load().checksum == first.checksum
    assert len(asked) == 1 + len(FILES)
    assert Mnist().is_here()
    assert "ossci-datasets.s3.amazonaws.com: Name or service not known" in caplog.text


def test_without_any_source_the_error_says_what_to_download_and_where_to_put_it(
    workplace: Path, monkeypatch: Patch
) -> None:
    def urlopen(request: Any, timeout: float) -> Answer:
        raise OSError("no network")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", workplace)
    with pytest.raises(UserError) as error:
        FashionMnist().load()
    said = str(error.value)
    assert "no network" in said
    assert "dataset-fashion-mnist of Debian: no file train-images-idx3-ubyte.gz" in said
    assert said.endswith(".com/t10k-labels-idx1-ubyte.gz into a folder and try dataset.path=FOLDER")
    assert "\n" not in said


def test_a_digest_may_be_a_sha256_or_an_md5() -> None:
    array = np.frombuffer(b"abc", np.uint8)
    assert has_digest(array, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert has_digest(array, "md5:900150983cd24fb0d6963f7d28e17f72")  # both of RFC 1321 and FIPS 180-2
    assert not has_digest(array, "md5:900150983cd24fb0d6963f7d28e17f73")


@pytest.mark.parametrize(("name", "write", "cls"), [("svhn", svhn, Svhn), ("mnist", mnist, Mnist)])
def test_files_reach_a_machine_without_network_in_parts(
    folder: Path, monkeypatch: Patch, name: str, write: Callable[..., Any], cls: type[Published]
) -> None:
    write(folder, monkeypatch)
    monkeypatch.setattr("advunlearn.data.parts.CHUNK", 30_000)
    checksum = cls(path=str(folder)).load().checksum
    assert main(["data", "pack", name, "parts", "--part-size", "120kB"]) == 0
    assert len(list(Path("parts").iterdir())) == (4 if name == "svhn" else 1)
    monkeypatch.setenv("ADVUNLEARN_CACHE", "other")
    assert not cls().is_here()
    assert main(["data", "unpack", "parts"]) == 0
    assert cls().load().checksum == checksum


TINY = {
    "cifar100": (cifar100, ["dataset.labels=coarse", "model=wrn28", "model.depth=10", "model.width=1"]),
    "svhn": (svhn, ["model=vgg16_bn", "model.width=2"]),
    "tiny_imagenet": (tiny_imagenet, ["model=vit_tiny", "model.depth=1", "model.width=6", "model.patch=16"]),
    "mnist": (mnist, ["model=airbench", "model.width=4"]),
}


@pytest.fixture
def words(request: pytest.FixtureRequest, folder: Path, monkeypatch: Patch) -> list[str]:
    """Give the overrides of a tiny run on a dataset by its name, with a network for it; its files are written."""
    write, network = TINY[request.param]
    write(folder, monkeypatch)
    Path("rows.txt").write_text("0\n1\n2\n3\n4\n", encoding="utf-8")
    few = ["unlearner=finetune", "unlearner.epochs=1", "optimizer.epochs=1", "attack=lira", "attack.shadows=2"]
    forget = ["forget=indices", "forget.path=rows.txt", f"dataset.path={folder}"]
    return [f"dataset={request.param}", *network, *few, *forget, "device=cpu", "threads=1", "recipe=none"]


@pytest.mark.parametrize("words", sorted(TINY), indirect=True)
def test_a_run_can_begin_with_its_network(words: list[str]) -> None:
    experiment = experiment_from(words)
    with Manifest(Path("run")) as manifest:
        _, trainer, splits = prepare(experiment, manifest)
    assert first_logits(trainer.fresh("warm"), trainer.examples).shape[1] == trainer.pool.classes
    assert len(splits.forget) == 5
