from __future__ import annotations

import logging
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from advunlearn.data.examples import examples_of
from advunlearn.data.huggingface import HuggingFace
from advunlearn.options import UserError

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")
TEXTS = ["a good film", "a bad film", "good", "bad bad bad bad bad", "", "film"]


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture
def pictures(workplace: Path) -> np.ndarray:
    """Give a folder of images with a test part, as `save_to_disk` writes it."""
    pixels = RNG.integers(0, 256, (16, 6, 8, 3), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    parts = {}
    for name, rows in (("train", range(12)), ("test", range(12, 16))):
        content = {"image": [Image.fromarray(pixels[row]) for row in rows], "label": [row % 2 for row in rows]}
        parts[name] = datasets.Dataset.from_dict(content, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(workplace / "saved"))
    return pixels


def test_images_from_a_saved_folder(pictures: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    dataset = HuggingFace(path="saved")
    info, pool = dataset.info(), dataset.load()
    assert (info.train, info.test, info.classes, info.shape, info.images) == (12, 4, (0, 1), (3, 6, 8), True)
    assert (pool.inputs == pictures).all()
    assert pool.labels.tolist() == [0, 1] * 8
    with caplog.at_level(logging.INFO):
        assert dataset.load().checksum == pool.checksum
    assert "decoding" not in caplog.text
    assert HuggingFace(path="saved", size=4).load().inputs.shape == (16, 4, 4, 3)


def test_a_folder_that_is_saved_again_is_decoded_again(pictures: np.ndarray, workplace: Path) -> None:
    first = HuggingFace(path="saved").load()
    content = {"image": [Image.fromarray(255 - each) for each in pictures], "label": [0, 1] * 8}
    changed = datasets.Dataset.from_dict(content).cast_column("image", datasets.Image())
    changed.save_to_disk(str(workplace / "other"))
    (workplace / "saved").rename(workplace / "old")
    (workplace / "other").rename(workplace / "saved")
    pool = HuggingFace(path="saved").load()
    assert pool.train_rows == 16
    assert (pool.inputs == 255 - first.inputs).all()


def test_images_from_a_folder_of_images(workplace: Path) -> None:
    for number in range(6):
        path = workplace / "photos" / "train" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (5, 5, 3), dtype=np.uint8)).save(path)
    info = HuggingFace(path="photos").info()
    assert (info.train, info.test, info.classes, info.shape) == (6, 0, (0, 1), (3, 5, 5))
    assert HuggingFace(path="photos").load().inputs.shape == (6, 5, 5, 3)


@pytest.fixture
def tokenizer(workplace: Path) -> str:
    """Give a folder with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "a", "good", "bad", "film"])}
    own = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(str(workplace / "words"))
    return "words"


def test_texts_become_tokens_and_a_mask(workplace: Path, tokenizer: str) -> None:
    (workplace / "texts").mkdir()
    labels = ["pos", "neg", "pos", "neg", "neg", "pos"]
    lines = [f"{text},{label}" for text, label in zip(TEXTS, labels, strict=True)]
    (workplace / "texts" / "train.csv").write_text("\n".join(["text,mood", *lines]), encoding="utf-8")
    dataset = HuggingFace(path="texts", input="text", label="mood", tokenizer=tokenizer, max_length=4)
    info, pool = dataset.info(), dataset.load()
    assert info.shape == {"input_ids": (4,), "attention_mask": (4,)}
    assert (info.train, info.test, info.images, info.whole_numbers) == (6, 0, False, True)
    assert pool.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert pool.inputs["input_ids"].tolist()[:4] == [[2, 3, 5, 0], [2, 4, 5, 0], [3, 0, 0, 0], [4, 4, 4, 4]]
    assert pool.inputs["attention_mask"].sum(axis=1).tolist() == [3, 3, 1, 4, 0, 1]
    (batch, _), *_ = examples_of(pool, dataset, np.arange(4), CPU, channels_last=False).batches(3)
    assert {name: each.dtype for name, each in batch.items()} == dict.fromkeys(pool.inputs, torch.int64)


def test_numbers_from_parquet(workplace: Path) -> None:
    values = RNG.normal(size=(10, 3))
    content = {"x": values.tolist(), "label": [n % 2 for n in range(10)], "wrong": [[1.0] * (n + 1) for n in range(10)]}
    (workplace / "numbers").mkdir()
    datasets.Dataset.from_dict(content).to_parquet(str(workplace / "numbers" / "train.parquet"))
    dataset = HuggingFace(path="numbers", input="x")
    assert dataset.info().shape == (3,)
    np.testing.assert_allclose(dataset.load().inputs, values, rtol=1e-6)
    with pytest.raises(UserError, match=r"^input=wrong holds values of different lengths$"):
        HuggingFace(path="numbers", input="wrong").load()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": None}, "path must be a folder or the name of a dataset on the hub"),
        ({"input": "picture"}, "input must be a column of the dataset, image, label, got picture"),
        ({"label": "kind"}, "label must be a column of the dataset, image, label, got kind"),
        ({"train_split": "all"}, "path=saved has no split all; there are train, test"),
        ({"test_split": "val"}, "path=saved has no split val; there are train, test"),
        ({"tokenizer": "words"}, "input=image holds no texts, which dataset.tokenizer needs"),
        ({"path": "nobody/nothing"}, "path=nobody/nothing cannot be loaded ("),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(pictures: np.ndarray, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        HuggingFace(**{"path": "saved", **options}).info()  # type: ignore[arg-type]
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_texts_need_a_tokenizer_that_is_there(workplace: Path) -> None:
    datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 3}).save_to_disk(str(workplace / "saved"))
    with pytest.raises(UserError, match=r"^tokenizer must be given for texts \(column text; try dataset.tokenizer=FOL"):
        HuggingFace(path="saved", input="text").info()
    (workplace / "nothing").mkdir()
    with pytest.raises(UserError, match=r"^tokenizer=nothing cannot be loaded \("):
        HuggingFace(path="saved", input="text", tokenizer="nothing").load()


def test_without_the_library_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"^path=x: the library datasets is not .* \(pip install 'advunlearn\[huggi"):
        HuggingFace(path="x").info()
