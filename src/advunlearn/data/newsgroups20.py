"""20 Newsgroups."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.huggingface import token_shape, tokenised
from advunlearn.data.published import Published
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Floats, Rows

ARCHIVE = "20news-bydate.tar.gz"
PARTS = ("20news-bydate-train", "20news-bydate-test")
AT_ONCE = 1000  # rows whose words are counted together


@dataclass
class Newsgroups20(Published):
    """20 Newsgroups (Lang 1995), sorted by date: 11,314 training and 7,532 test messages in 20 classes.

    The archive is the one that scikit-learn reads, verified by the SHA-256 that scikit-learn has for it. Without a
    tokenizer, the inputs are TF-IDF vectors, for a network such as `mlp`. The vocabulary is that of the training part.
    The weight of a word comes from the messages that the original is trained on, as the statistics of images do:
    idf = ln((1 + n) / (1 + df)) + 1 for n messages, of which df contain the word. Word counts are scaled to
    1 + ln(count), and to unit length before the weighting; scikit-learn scales to unit length after it. With a
    tokenizer, the inputs are tokens, for `model=huggingface`.

    Attributes:
        features: words of the vocabulary, the most frequent ones without English stop words.
        strip: remove headers, footers and quotations, which name the group or its regular authors.
        tokenizer: of transformers, a folder or a name on the hub; null: TF-IDF vectors.
        max_length: tokens of a message; longer ones are truncated, shorter ones are padded.
        path: a folder that already holds `20news-bydate.tar.gz`.

    References:
        [lang1995] K. Lang, "NewsWeeder: Learning to Filter Netnews", ICML 1995.
            https://doi.org/10.1016/B978-1-55860-377-6.50048-7
    """

    name: ClassVar[str] = "newsgroups20"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        ARCHIVE: ("https://ndownloader.figshare.com/files/5975967", f"http://qwone.com/~jason/20Newsgroups/{ARCHIVE}")
    }
    digests: ClassVar[Mapping[str, str]] = {ARCHIVE: "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"}
    rows: ClassVar[tuple[int, int]] = (11_314, 7_532)
    fetched_bytes: ClassVar[int] = 14_500_000

    features: int = option(4000, at_least=1)
    strip: bool = True
    tokenizer: str | None = None
    max_length: int = option(128, at_least=1)

    def info(self) -> DatasetInfo:
        """Return the sizes; see `Dataset.info`."""
        self.check_path()
        tokens = self.tokenizer is not None
        shape, size = token_shape(self.max_length) if tokens else ((self.features,), 4 * self.features)
        return DatasetInfo(*self.rows, tuple(range(20)), shape, images=False, whole_numbers=tokens, example_bytes=size)

    def load(self) -> Pool:
        """Return all messages; they are downloaded if they are not in the cache; see `Dataset.load`.

        Raises:
            UserError: in one line, if the archive holds other messages than it should.
        """
        parts = messages(self.arrays()[ARCHIVE].tobytes())
        texts = [self._text(message) for part in parts for message, _ in part]
        groups = [group for part in parts for _, group in part]
        numbers = {group: number for number, group in enumerate(sorted(set(groups)))}
        sizes = tuple(map(len, parts))
        if sizes != self.rows or len(numbers) != 20:
            raise UserError(f"{self.name}: the archive holds {sizes} messages in {len(numbers)} groups")
        inputs: Any
        if self.tokenizer is None:
            inputs = word_weights(texts, sizes[0], self.features)
        else:
            inputs = tokenised(texts, self.tokenizer, self.max_length)
        return Pool(inputs, np.array([numbers[group] for group in groups]), sizes[0], 20, images=False)

    def statistics(self, pool: Pool, rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Return mean 0 and deviation 1 / idf, so that words are weighted by idf; see `Dataset.statistics`."""
        if self.mean is not None or isinstance(pool.inputs, dict):
            return super().statistics(pool, rows)
        weights = inverse_document_frequency(pool.inputs, rows)
        return np.zeros(len(weights), np.float32), (1 / weights).astype(np.float32)

    def _text(self, message: str) -> str:
        if not self.strip:
            return message
        from sklearn.datasets import _twenty_newsgroups as sklearn

        text = sklearn.strip_newsgroup_header(message)
        stripped: str = sklearn.strip_newsgroup_quoting(sklearn.strip_newsgroup_footer(text))
        return stripped


def messages(archive: bytes) -> list[list[tuple[str, str]]]:
    """Return the text and the group of each message of the training part and of the test part, by group and number."""
    found: list[list[tuple[str, tuple[str, str]]]] = [[], []]
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files:
            part, _, place = member.name.partition("/")
            if member.isfile() and part in PARTS and place.count("/") == 1:
                content: Any = files.extractfile(member)
                group, _, number = place.partition("/")
                found[PARTS.index(part)].append((content.read().decode("latin1"), (group, number)))
    return [[(text, group) for text, (group, _) in sorted(part, key=lambda each: each[1])] for part in found]


def word_weights(texts: Sequence[str], train: int, features: int) -> NDArray[np.float32]:
    """Return term frequencies 1 + ln(count), (n, features), scaled to unit length.

    The vocabulary is that of the first `train` texts; if it has fewer words, the last features are 0.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    counter = CountVectorizer(max_features=features, stop_words="english", dtype=np.float32)
    try:
        counter.fit(texts[:train])
    except ValueError as error:  # no word at all
        raise UserError(f"newsgroups20: {error}") from error
    counts = counter.transform(texts)
    counts.data = 1 + np.log(counts.data)
    dense = np.zeros((len(texts), features), np.float32)
    dense[:, : counts.shape[1]] = normalize(counts).toarray()
    return dense


def inverse_document_frequency(inputs: NDArray[Any], rows: Rows) -> Floats:
    """Return ln((1 + n) / (1 + df)) + 1 of each feature, for the n rows, of which df are not 0 in the feature."""
    chunks = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    documents = np.sum([np.count_nonzero(inputs[chunk], axis=0) for chunk in chunks], axis=0)
    weights: Floats = np.log((1 + len(rows)) / (1 + documents)) + 1
    return weights
