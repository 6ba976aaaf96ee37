"""What a file or a part of the user holds, whatever exception it raises, is one line with its name and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import advunlearn
from advunlearn.cli import main
from advunlearn.options import ConfigError, UserError
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.storage.files import UnreadableFile
from advunlearn.sweeps.submission import Sweep

GOOD = b"_target_: advunlearn.unlearners.finetune.Finetune\nepochs: 1\n"

OWN: dict[str, tuple[bytes, str]] = {
    "tab": (b"_target_: x\n\tepochs: 1\n", "line 2: found character '\\t' that cannot start any token"),
    "duplicate": (GOOD + b"epochs: 2\n", "line 3: found duplicate key epochs"),
    "tag": (b"_target_: !!python/object/apply:os.getcwd []\n", "line 1: could not determine a constructor for the tag"),
    "latin": ("# été\n".encode("latin-1") + GOOD, "not UTF-8 text"),
    "bytes": (b"\x00\x01\x02", "unacceptable character #x0000"),
    "list": (b"- 1\n- 2\n", "must hold lines such as `key: value`"),
    "loop": (b"_target_: &x [*x]\n", "has an anchor that contains itself"),
    "deep": (b"a: " + b"[" * 1000, "maximum recursion depth exceeded"),
    "documents": (GOOD + b"---\na: 1\n", "line 3: but found another document"),
    "number": (b"_target_: x\nepochs: " + b"9" * 5000 + b"\n", "Exceeds the limit"),
}


@pytest.fixture
def own(workplace: Path) -> Path:
    folder = workplace / "my" / "unlearner"
    folder.mkdir(parents=True)
    return folder


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("verb", ["run", "check", "submit"])
def test_an_options_file_that_cannot_be_read(
    own: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    content, said = OWN[name]
    (own / f"{name}.yaml").write_bytes(content)
    assert main([verb, "--config-dir", "my", f"unlearner={name}"]) == 2
    line = only_line(capsys)
    assert line.startswith(f"error: {own.absolute()}/{name}.yaml: ")
    assert said in line


def test_an_options_file_that_another_one_names(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "outer.yaml").write_bytes(b"defaults: [inner]\n" + GOOD)
    (own / "inner.yaml").write_bytes(b"epochs: 1\nepochs: 2\n")
    assert main(["check", "--config-dir", "my", "unlearner=outer"]) == 2
    assert only_line(capsys) == f"error: {own.absolute()}/inner.yaml: line 2: found duplicate key epochs"


@pytest.mark.parametrize("defaults", [b"5", b"[1, 2]", b"[{a: b, c: d}]", b"{a: 1}", b"[null]", b"[[x]]", b"[nowhere]"])
def test_defaults_that_hydra_cannot_read(own: Path, capsys: pytest.CaptureFixture[str], defaults: bytes) -> None:
    (own / "mine.yaml").write_bytes(b"defaults: " + defaults + b"\n" + GOOD)
    assert main(["check", "--config-dir", "my", "unlearner=mine"]) == 2
    assert only_line(capsys).startswith("error: ")


PART = """
from dataclasses import dataclass
from advunlearn.data.digits import Digits
from advunlearn.models.mlp import MLP
from advunlearn.data.forget.random import Random

@dataclass
class Data(Digits):
    def info(self):
        return {}["sizes"]

@dataclass
class Net(MLP):
    def build(self, shape, classes):
        return shape.nothing

@dataclass
class Rows(Random):
    def problems(self, info, train_size):
        raise RuntimeError("first\\nsecond")

@dataclass
class Early(MLP):
    def __post_init__(self):
        raise LookupError("too early")
"""


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("dataset", "Data", "dataset: KeyError: 'sizes' ({file} line 10)"),
        ("model", "Net", "model: AttributeError: 'tuple' object has no attribute 'nothing' ({file} line 15)"),
        ("forget", "Rows", "forget: RuntimeError: first second ({file} line 20)"),
        ("model", "Early", "model: LookupError: too early ({file} line 25)"),
    ],
)
def test_a_bug_in_a_part_of_the_user_is_located(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    group: str,
    name: str,
    said: str,
) -> None:
    (workplace / f"buggy_{name}.py").write_text(PART, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    (workplace / "my" / group).mkdir(parents=True)
    text = f"_target_: buggy_{name}.{name}\n"
    (workplace / "my" / group / "mine.yaml").write_text(text, encoding="utf-8")
    assert main(["check", "--config-dir", "my", f"{group}=mine"]) == 2
    assert only_line(capsys) == "error: " + said.format(file=workplace / f"buggy_{name}.py")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=???", "seed must be a whole number, got ???"),
        ("threads=???", "threads must be a whole number or null, got ???"),
        ("optimizer.milestones=???", "optimizer.milestones must be a list of numbers, got ???"),
        ("seed=${seed}", "seed: Recursive interpolation detected"),
        ("seed=${oc.env:NOWHERE}", "seed: KeyError raised while resolving interpolation: "),
        ("budget=${now:}", "budget: TypeError raised while resolving interpolation: "),
    ],
)
def test_the_same_in_python(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said.replace("?", r"\?").replace("$", r"\$")):
        advunlearn.run([word])


BAD_JSON = [b"", b"{", b"[]", b"5", b'{"status": 3}', b'{"status": "gone", "error": null}', b"[" * 100_000, b"\xff\xfe"]


@pytest.mark.parametrize("content", BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UnreadableFile) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/manifest.json: ")
    assert state_of(tmp_path).name in ("damaged", "other version")


def test_keys_of_a_manifest_have_their_types(tmp_path: Path) -> None:
    whole = '{"status": "failed", "error": null, "overrides": ["seed=1"], "seconds": 3}'
    (tmp_path / "manifest.json").write_text(whole, encoding="utf-8")
    assert str(state_of(tmp_path)) == "failed"
    for key, wrong in (("overrides", "3"), ("seconds", '"long"'), ("checksums", "[]"), ("attempts", "{}")):
        text = f'{{"status": "failed", "error": null, "{key}": {wrong}}}'
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(UnreadableFile, match=f"with {key} = "):
            read_manifest(tmp_path)


@pytest.mark.parametrize("content", [*BAD_JSON, b'{"schema": 1}', b'{"schema": 2}'], ids=range(len(BAD_JSON) + 2))
def test_a_sweeps_record_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"sweep\.json: "):
        Sweep.read(tmp_path)


@pytest.mark.parametrize("name", ["tab", "list", "latin", "loop"])
def test_a_frozen_config_that_cannot_be_read(workplace: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, said = OWN[name]
    (workplace / "0").mkdir()
    (workplace / "0" / "config.yaml").write_bytes(content)
    assert main(["resume", "0"]) == 1
    line = only_line(capsys)
    assert "0/config.yaml: " in line
    assert said in line


def test_a_folder_that_holds_a_run_is_a_mistake_of_the_user(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "out").mkdir()
    (workplace / "out" / "manifest.json").write_text('{"status": "failed", "error": "x"}', encoding="utf-8")
    assert main(["run", "hydra.run.dir=out", "attack=threshold"]) == 2
    assert "already holds a run; choose another folder" in capsys.readouterr().err


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    error = UserError("x must be y, got a\nb\x1b[31m é")
    assert str(error) == "x must be y, got a\\nb\\x1b[31m é"
    assert str(ConfigError(["one\r", "two"])) == "one\\r\ntwo"


def test_a_bug_is_one_line_that_says_where(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no\nway")

    monkeypatch.setattr("advunlearn.config.compose.jobs_to_check", broken)
    assert main(["check"]) == 1
    line = only_line(capsys)
    assert line.startswith(f"error: ZeroDivisionError: no way ({__file__} line ")
    assert line.endswith("; ADVUNLEARN_TRACEBACK=1 shows the whole traceback")
    monkeypatch.setenv("ADVUNLEARN_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["check"])
