"""Whatever the bytes of a file or the words of a command, a reader gives a result or one line.

`ADVUNLEARN_EXAMPLES=100000 pytest tests/test_any_bytes.py -n 0` looks further.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advunlearn.config.compose import _read_all, hydra_words
from advunlearn.config.composer import Composer, composer
from advunlearn.config.swept import swept_by
from advunlearn.config.yaml_files import read_yaml
from advunlearn.data.forget.indices import Indices
from advunlearn.data.npz import Npz
from advunlearn.evaluation.metrics_file import read_metrics
from advunlearn.options import UserError
from advunlearn.runs.state import read_manifest, state_of

EXAMPLES = int(os.environ.get("ADVUNLEARN_EXAMPLES", "300"))
BOUND = 100 << 20  # bytes that reading a small file may take
any_input = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(reader: Callable[[], Any]) -> Any:
    """Return what a reader returns, or None for a refusal in one line; anything else that it raises fails the test."""
    try:
        with bounded():
            return reader()
    except UserError as error:
        for line in error.problems:
            assert line
            assert len(line.splitlines()) == 1, line
        return None


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Check that reading takes no more memory than the bound, where Linux measures the peak."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not clear.exists():
        yield
        return

    def kilobytes(name: str) -> int:
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(name))
        return int(line.split()[1])

    clear.write_text("5", encoding="utf-8")  # the peak is measured from here
    before = kilobytes("VmRSS")
    yield
    assert kilobytes("VmHWM") - before < BOUND / 1024


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


WHOLE = npz(images=np.zeros((9, 4, 4), np.uint8), labels=np.arange(9) % 3)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file with some of its bytes changed, cut out or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 8))
        content[start : start + length] = draw(st.binary(max_size=8))
    return bytes(content)


@any_input
@given(content=st.binary(max_size=200) | damaged(WHOLE))
@example(content=WHOLE)
def test_npz(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    dataset = Npz(path=str(path))
    info, pool = read(dataset.info), read(dataset.load)
    if content == WHOLE:
        assert info.train == len(pool.inputs) == 9


ROWS = b"# rows\n3\n\n17\n5\n"


@any_input
@given(content=st.binary(max_size=100) | damaged(ROWS))
@example(content=ROWS)
@example(content=b"9" * 5000)
def test_index_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(content)
    rows = read(lambda: Indices(path=str(path))._read((), 20))
    assert rows is None or set(rows) <= set(range(20))
    if content == ROWS:
        assert rows.tolist() == [3, 5, 17]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["status", "error", "overrides", "choices", "attempts", "checksums", "stages", "seconds", "schema", "models"]
WORDS = values | st.sampled_from(["running", "completed", "failed", "interrupted", 1])
objects = st.dictionaries(st.sampled_from(KEYS), WORDS).map(lambda each: json.dumps(each).encode())
MANIFEST = b'{"status": "failed", "error": "ValueError: x", "overrides": ["seed=1"], "checksums": {}}'


@any_input
@given(content=st.binary(max_size=50) | objects | damaged(MANIFEST))
@example(content=b"")
@example(content=b"[" * 100_000)
@example(content=MANIFEST)
def test_manifests(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    found = read(lambda: read_manifest(tmp_path))
    with bounded():
        state = state_of(tmp_path)  # raises nothing
    assert found is not None or state.name in ("damaged", "other version")
    if content == MANIFEST:
        assert str(state) == "failed: ValueError: x"


@any_input
@given(content=st.binary(max_size=50) | objects)
@example(content=b"[" * 100_000)
def test_metrics(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    assert read(lambda: read_metrics(tmp_path)) is None  # none of these is a run's


OWN = b"# mine\n_target_: advunlearn.unlearners.finetune.Finetune\nepochs: 1\nlr: 0.1\n"
PIECES = [
    b"a: ",
    b"&x ",
    b"*x",
    b"\n",
    b"  ",
    b"- ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"!!",
    b"${",
    b"???",
    b"<<: ",
    b"|",
    b": ",
]


@any_input
@given(content=st.binary(max_size=50) | damaged(OWN) | st.lists(st.sampled_from(PIECES)).map(b"".join))
@example(content=b"a: 1\na: 2\n")
@example(content=b"a:\t1\n\tb: 2\n")
@example(content=b"a: !!python/object/apply:os.system [true]\n")
@example(content=b"a: &a [*a]\n")
@example(content=b"a: " + b"[" * 1000)
def test_own_yaml(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    read(lambda: read_yaml(tmp_path / "own.yaml"))


TOKENS = [
    *[
        "seed",
        "optimizer.lr",
        "unlearner",
        "attack",
        "dataset.path",
        "forget",
        "auditor",
        "auditor.folds",
        "hydra.run.dir",
    ],
    *[
        "=",
        "=",
        "=",
        ".",
        "@",
        "+",
        "~",
        "???",
        "null",
        "1",
        "1e9",
        "-1",
        "nan",
        "inf",
        "x",
        "é",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
    ],
    *[
        ",",
        ":",
        "'",
        '"',
        "\\",
        "${",
        "$",
        " ",
        "/",
        "range(",
        "glob(",
        "choice(",
        "shuffle(",
        "int(",
        "sg",
        "lira",
        "*",
        "\t",
    ],
]


@pytest.fixture(scope="module")
def here() -> Iterator[Composer]:
    with composer(None) as made:
        yield made


@any_input
@given(word=st.lists(st.sampled_from(TOKENS), max_size=8).map("".join) | st.text(max_size=12), multirun=st.booleans())
@example(word="seed=???", multirun=False)
@example(word="seed=range(0,1e9)", multirun=True)
@example(word="seed=shuffle(range(0,1e12))", multirun=True)
@example(word="unlearner=glob(zzz*)", multirun=True)
@example(word="~unlearner.alpha=1,2", multirun=True)
@example(word="~+seed=1", multirun=True)
@example(word="~~seed=1", multirun=True)
@example(word="~seed.[=1", multirun=True)
@example(word="dataset.path=d/\udce9.npz", multirun=True)
def test_overrides(word: str, multirun: bool, here: Composer) -> None:
    def jobs() -> None:
        swept = swept_by(here, hydra_words([word]), [], multirun=multirun)
        runs = ([*words, "recipe=none"] for words in swept.variants() if words)
        list(_read_all(here, runs, swept))

    read(jobs)
