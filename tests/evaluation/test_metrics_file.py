"""What is refused of a `metrics.json`, and with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advunlearn.evaluation.metrics_file import read_metrics
from advunlearn.storage.files import UnreadableFile
from tests.report.runs import config, metrics, write


def written(folder: Path) -> Any:
    """Return valid contents, as plain data."""
    write(folder, config(), metrics({"lira": 0.1}))
    return json.loads((folder / "metrics.json").read_text())


def test_valid_contents_come_back_as_they_are(tmp_path: Path) -> None:
    contents = written(tmp_path / "run")
    assert read_metrics(tmp_path / "run") == contents


@pytest.mark.parametrize(
    "path",
    [
        "gap",
        "gap.original",
        "models.retrained",
        "models.unlearned.attacks",
        "models.original.accuracy.test",
        "models.original.attacks.lira.tpr_at_fpr_0#01",
        "models.original.attacks.lira.figures",
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, path: str) -> None:
    contents = written(tmp_path / "run")
    *parents, last = (key.replace("#", ".") for key in path.split("."))
    node = contents
    for key in parents:
        node = node[key]
    del node[last]
    file = tmp_path / "run" / "metrics.json"
    file.write_text(json.dumps(contents))
    with pytest.raises(UnreadableFile) as refused:
        read_metrics(tmp_path / "run")
    assert refused.value.other_version
    missing = path.replace("#", ".")
    assert str(refused.value) == f"{file}: made by another version of advunlearn, without '{missing}'"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", 2, "with schema = 2"),
        ("models", [], "with models = []"),
        ("trace", None, "with trace = None"),
        ("unlearning_over_retraining", "fast", "with unlearning_over_retraining = 'fast'"),
        ("seconds", {"retrain": "1 s"}, "with seconds.retrain = '1 s'"),
    ],
)
def test_values_of_another_type_are_refused(tmp_path: Path, key: str, value: object, words: str) -> None:
    contents = written(tmp_path / "run") | {key: value}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(contents))
    with pytest.raises(UnreadableFile, match="another version") as refused:
        read_metrics(tmp_path / "run")
    assert str(refused.value).endswith(words)


def test_files_from_before_attacks_on_the_algorithm_are_taken(tmp_path: Path) -> None:
    contents = written(tmp_path / "run")
    del contents["algorithm"]
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(contents))
    assert read_metrics(tmp_path / "run") == contents


def test_a_trace_may_hold_anything(tmp_path: Path) -> None:
    contents = written(tmp_path / "run") | {"trace": {"step": "all", "own": [None, {}]}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(contents))
    assert read_metrics(tmp_path / "run") == contents


def test_whole_numbers_and_new_keys_are_taken(tmp_path: Path) -> None:
    contents = written(tmp_path / "run") | {"references_over_retraining": 0, "of_tomorrow": 1}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(contents))
    assert read_metrics(tmp_path / "run") == contents


@pytest.mark.parametrize(
    ("contents", "words"),
    [(b"{", "not valid JSON: "), (b"\xff", "not valid JSON: "), (b"[]", "must hold a JSON object, got []")],
)
def test_damaged_files_are_refused(tmp_path: Path, contents: bytes, words: str) -> None:
    (tmp_path / "metrics.json").write_bytes(contents)
    with pytest.raises(UnreadableFile) as refused:
        read_metrics(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'metrics.json'}: ")
    assert words in refused.value.reason


def test_a_folder_without_the_file_holds_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_metrics(tmp_path)
    assert str(refused.value) == f"{tmp_path}: does not hold a finished run: it has no metrics.json"
    assert not refused.value.other_version
