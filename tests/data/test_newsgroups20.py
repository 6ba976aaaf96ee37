"""20 Newsgroups: scikit-learn's archive with other messages, as TF-IDF vectors and as tokens of a transformer."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import _twenty_newsgroups, fetch_20newsgroups
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from advunlearn.config.compose import experiment_from
from advunlearn.data.newsgroups20 import ARCHIVE, Newsgroups20, inverse_document_frequency
from advunlearn.models.foreign import own_module
from advunlearn.models.huggingface import HuggingFace
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.train import run_experiment
from advunlearn.training.fit import first_logits

TRAIN, TEST = 12, 12  # messages of a group
VOCABULARY = ["".join(chr(97 + int(digit)) for digit in np.base_repr(n, 6).zfill(4)) for n in range(900)]
MESSAGE = "From: somebody@somewhere\nSubject: {subject}\n\nHe writes:\n> quoted words\n\n{body} café\n\n-- \nfooter\n"


def bodies() -> dict[str, str]:
    """Return the message of each path in the archive: words of its group, and words of its own to memorise."""
    rng, found = np.random.default_rng(0), {}
    for group in range(20):
        own = VOCABULARY[15 * group : 15 * group + 15]
        for number in range(TRAIN + TEST):
            words = [*rng.choice(own, 3), *rng.choice(VOCABULARY, 30)]
            part = "train" if number < TRAIN else "test"
            found[f"20news-bydate-{part}/group{group:02}/{5000 + number}"] = " ".join(words)
    return found


@pytest.fixture
def archive(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the archive, in no order, into an empty folder; give its path."""
    path = workplace / "files" / ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as files:
        for name, body in reversed(bodies().items()):
            content = MESSAGE.format(subject="about", body=body).encode("latin1")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            files.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(Newsgroups20, "digests", {ARCHIVE: hashlib.sha256(path.read_bytes()).hexdigest()})
    monkeypatch.setattr(Newsgroups20, "rows", (20 * TRAIN, 20 * TEST))
    return path


@pytest.mark.parametrize("strip", [True, False])
def test_vectors_are_those_of_scikit_learns_loader_and_vectorizer(
    archive: Path, monkeypatch: pytest.MonkeyPatch, strip: bool
) -> None:
    """They differ in when rows are scaled to unit length only."""

    def fetch_remote(remote: object, dirname: Path, **options: object) -> str:
        copy = Path(dirname) / ARCHIVE
        copy.write_bytes(archive.read_bytes())
        return str(copy)

    monkeypatch.setattr(_twenty_newsgroups, "_fetch_remote", fetch_remote)
    remove = ("headers", "footers", "quotes") if strip else ()
    texts, targets = [], []
    for part in ("train", "test"):
        found = fetch_20newsgroups(data_home="sklearn", subset=part, shuffle=False, remove=remove)
        order = sorted(range(len(found.data)), key=lambda row, names=found.filenames: Path(names[row]).parts[-2:])
        texts += [found.data[row] for row in order]  # its cache is shuffled
        targets += [int(found.target[row]) for row in order]
    dataset = Newsgroups20(path=str(archive.parent), strip=strip, features=500)
    pool = dataset.load()
    assert pool.labels.tolist() == targets
    vectorizer = TfidfVectorizer(max_features=500, stop_words="english", sublinear_tf=True).fit(texts[: 20 * TRAIN])
    expected = vectorizer.transform(texts).toarray()
    statistics = dataset.statistics(pool, np.arange(20 * TRAIN))
    assert statistics is not None
    mean, deviation = statistics
    np.testing.assert_allclose(normalize((pool.inputs - mean) / deviation), expected, atol=1e-6)


def test_the_weights_of_words_come_from_the_training_examples_alone() -> None:
    inputs = np.array([[1, 0, 0], [1, 2, 0], [1, 0, 0], [1, 1, 1]], np.float32)
    found = inverse_document_frequency(inputs, np.array([0, 1]))
    np.testing.assert_allclose(found, np.log(np.array([3 / 3, 3 / 2, 3 / 1])) + 1)


def test_the_vocabulary_has_no_word_of_the_test_part(archive: Path) -> None:
    pool = Newsgroups20(path=str(archive.parent), features=1500).load()
    seen = (pool.inputs[: pool.train_rows] > 0).any(axis=0)
    words = {word for name, body in bodies().items() if "train" in name for word in body.split()}
    assert seen.sum() == len(words | {"café"})
    assert not pool.inputs[:, ~seen].any()


def test_an_archive_with_other_messages_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Newsgroups20, "rows", (11_314, 7_532))
    with pytest.raises(UserError, match=r"^newsgroups20: the archive holds \(240, 240\) messages in 20 groups$"):
        Newsgroups20(path=str(archive.parent)).load()


def test_a_run_shows_forgetting(archive: Path) -> None:
    words = [
        "dataset=newsgroups20",
        f"dataset.path={archive.parent}",
        "dataset.features=900",
        "device=cpu",
        "threads=1",
    ]
    experiment = experiment_from([*words, "forget.fraction=0.3", "attack=threshold", "optimizer.epochs=10"])
    with Manifest(Path("run")) as manifest:
        models = run_experiment(experiment, manifest).metrics["models"]
    auc = {name: model["attacks"]["threshold"]["auc"] for name, model in models.items()}
    assert auc["original"] > 0.9
    assert auc["unlearned"] < auc["original"] - 0.1
    assert models["unlearned"]["accuracy"]["retain"] > 0.95


BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def test_a_transformer_from_a_local_folder_takes_the_messages(archive: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1} | {word: 2 + number for number, word in enumerate(VOCABULARY)}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained("bert")
    config = {**BERT, "vocab_size": len(words), "max_position_embeddings": 24}
    shape = {"input_ids": (20,), "attention_mask": (20,)}
    trained = own_module(HuggingFace(name="bert", arguments=config).build(shape, 20))
    trained.save_pretrained("bert")

    run = ["dataset=newsgroups20", f"dataset.path={archive.parent}", "dataset.tokenizer=bert", "dataset.max_length=20"]
    run += ["model=huggingface", "model.path=bert", "model.pretrained=true", "attack=threshold", "device=cpu"]
    with Manifest(Path("run")) as manifest:
        _, trainer, _ = prepare(experiment_from(run), manifest)
    network = trainer.fresh("warm")
    assert first_logits(network, trainer.examples).shape[1] == 20
    weights = network.state_dict()
    same = [name for name, each in trained.state_dict().items() if (weights[f"network.{name}"] == each).all()]
    assert "bert.embeddings.word_embeddings.weight" in same
    body = bodies()["20news-bydate-train/group00/5000"].split()
    assert isinstance(trainer.pool.inputs, dict)
    assert trainer.pool.inputs["input_ids"][0].tolist() == [words[word] for word in body[:20]]
