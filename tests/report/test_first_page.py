"""The first page: the request with its digests, and a conclusion that goes no further than the intervals."""

from __future__ import annotations

import hashlib
import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advunlearn.cli import main
from advunlearn.report.run.first_page import asked, conclusion, done, limits, row_digest
from tests.report.runs import metrics

QUICK = ["attack=threshold", "optimizer.epochs=2", "unlearner=finetune", "unlearner.epochs=1"]
ROWS = np.array([3, 17, 200])


def with_intervals(original: float, retrained: float, unlearned: float, half: float) -> Any:
    found: Any = metrics({"lira": unlearned - retrained}, before={"lira": original - retrained})
    for model, auc in (("original", original), ("retrained", retrained), ("unlearned", unlearned)):
        attack = found["models"][model]["attacks"]["lira"]
        attack |= {"auc": auc, "auc_low": auc - half, "auc_high": auc + half}
    return found


@pytest.mark.parametrize(
    ("original", "unlearned", "half", "first", "second"),
    [
        (0.8, 0.52, 0.05, "No difference beyond chance", "The audit could see"),
        (0.8, 0.7, 0.05, "Not as if", "The audit could see"),
        (0.8, 0.3, 0.05, "Not as if", "The audit could see"),  # far below is a leak too
        (0.52, 0.52, 0.05, "No difference beyond chance", "The audit may be too weak"),
        (0.8, 0.6, 0.05, "No difference beyond chance", "The audit could see"),  # the ends touch
    ],
)
def test_the_conclusion_follows_from_the_intervals(
    original: float, unlearned: float, half: float, first: str, second: str
) -> None:
    found = conclusion(with_intervals(original, 0.5, unlearned, half))
    assert found[0].startswith(first)
    assert found[1].startswith(second)
    assert all(sentence.isprintable() for sentence in found)  # the page escapes what is not


def test_a_difference_that_the_audit_cannot_see_is_the_sum_of_half_intervals() -> None:
    assert any("below about 0.10 cannot be seen" in line for line in limits(with_intervals(0.8, 0.5, 0.5, 0.05), {}))


def test_an_attack_that_compares_two_models_has_no_part_in_the_conclusion() -> None:
    found = with_intervals(0.8, 0.5, 0.5, 0.05)
    for model, auc in (("original", 0.5), ("retrained", 0.5), ("unlearned", 0.9)):
        attacks = found["models"][model]["attacks"]
        attacks["weight_change"] = {**attacks["lira"], "auc": auc, "auc_low": auc - 0.05, "auc_high": auc + 0.05}
    assert conclusion(found)[0].startswith("No difference beyond chance was found: the attack lira does not tell")


def test_a_control_that_failed_is_said_on_the_first_page() -> None:
    found = with_intervals(0.8, 0.5, 0.5, 0.05)
    apart = {"auc": 0.6, "reference": 0.5, "spread": 0.01, "difference": 0.1, "low": 0.05, "high": 0.15}
    found["control"] = {"models": 3, "attacks": {"lira": apart}, "failed": ["lira"]}
    assert any("do not trust the gaps" in line for line in limits(found, {}))


def test_a_model_that_is_of_no_use_is_called_so() -> None:
    found = metrics({"lira": 0.0}, trace={"collapsed": True})
    assert any("of no use" in sentence for sentence in conclusion(found))
    assert not any("of no use" in sentence for sentence in conclusion(metrics({"lira": 0.0})))


def test_the_digest_is_that_of_the_list_with_a_row_on_each_line() -> None:
    assert row_digest(ROWS) == hashlib.sha256(b"3\n17\n200\n").hexdigest()
    facts = dict(asked(metrics({"lira": 0.0}), {"request": "DSR-7", "started": "2026-11-30T10:00:00"}, ROWS))
    assert facts["SHA-256 of the list of rows"] == row_digest(ROWS)
    assert facts["request"] == "DSR-7"
    assert facts["rows"] == "3, 17, 200"
    assert facts["to forget"] == "50 of 250 training examples"


def test_a_long_list_of_rows_is_shortened_and_an_unknown_one_left_out() -> None:
    facts = dict(asked(metrics({"lira": 0.0}), {}, np.arange(100)))
    assert facts["rows"].endswith("10, 11, ... (100 in forget.txt)")
    assert facts["request"] == "no identifier was given (request=ID)"
    assert "rows" not in dict(asked(metrics({"lira": 0.0}), {}, None))


@pytest.mark.parametrize(
    ("about", "source", "digest"),
    [
        ({"checksums": {"original.safetensors": "abc"}, "original": None}, "trained by this run", "abc"),
        ({"original": {"file": "model.pt", "sha256": "def"}}, "given: model.pt", "def"),
    ],
)
def test_both_models_have_their_digests(about: dict[str, Any], source: str, digest: str) -> None:
    about.setdefault("checksums", {})["unlearned.safetensors"] = "123"
    facts = dict(done(metrics({"lira": 0.0}), about, "advunlearn run"))
    assert facts["model before"] == source
    assert facts["SHA-256 of its weights"] == digest
    assert facts["SHA-256 of the new weights"] == "123"


def test_a_run_of_a_sweep_shows_its_own_options_next_to_the_command() -> None:
    words = "advunlearn run -m --config-dir my seed=1,2"
    about = {"command": words, "overrides": ["seed=2"]}
    assert dict(done(metrics({"lira": 0.0}), about, words))["this run of it"] == "seed=2"
    one = {"command": "advunlearn run seed=2", "overrides": ["seed=2"]}
    assert "this run of it" not in dict(done(metrics({"lira": 0.0}), one, one["command"]))


def test_the_page_has_the_command_the_request_and_digests_that_the_files_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVUNLEARN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my parts").mkdir()
    words = ["--config-dir", str(tmp_path / "my parts"), *QUICK]
    assert main(["run", *words, "request=DSR-1", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    page = unescape((tmp_path / "run" / "report.html").read_text())
    assert f"advunlearn run --config-dir '{tmp_path / 'my parts'}' attack=threshold" in page
    for name in ("original.safetensors", "unlearned.safetensors", "forget.txt"):
        assert hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() in page
    # The same work for another request takes over the files, but not the page.
    assert main(["run", "-m", *words, "request=DSR-2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]) == 0
    manifest = json.loads((tmp_path / "sweep" / "0" / "manifest.json").read_text())
    assert [stage["name"] for stage in manifest["stages"]][-1] == "run"
    again = unescape((tmp_path / "sweep" / "0" / "report.html").read_text())
    assert "DSR-2" in again
    assert "DSR-1" not in again
    assert "advunlearn run -m --config-dir" in again
    assert "DSR-1" in (tmp_path / "run" / "report.html").read_text()
