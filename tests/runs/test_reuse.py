"""A run that is finished elsewhere is taken over, and only then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.report.run.page import write_report
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.state import read_manifest, state_of
from advunlearn.storage.files import file_digest
from advunlearn.train import Result, run_experiment

QUICK = ["optimizer.epochs=3", "unlearner.epochs=1", "attack=threshold"]


def again(folder: str, overrides: list[str] = QUICK) -> Result:
    with Manifest(Path(folder)) as manifest:
        return run_experiment(experiment_from(overrides), manifest, adopt=True)


def stages(result: Result) -> list[str]:
    return [stage["name"] for stage in (read_manifest(result.folder) or {})["stages"]]


def test_a_finished_run_of_the_same_config_is_taken_over(workplace: Path) -> None:
    first = advunlearn.run(QUICK, "first")
    second = again("second")
    assert stages(second) == ["data", "run"]
    assert second.metrics == first.metrics
    assert state_of(second.folder).name == "completed"
    assert (second.folder / "metrics.json").samefile(first.folder / "metrics.json")
    manifest: Any = read_manifest(second.folder)
    assert all(file_digest(second.folder / name) == digest for name, digest in manifest["checksums"].items())
    shutil.rmtree(first.folder)
    assert write_report(second.folder).is_file()
    assert json.loads((second.folder / "metrics.json").read_text()) == second.metrics


class Begun(Exception):
    """Raised instead of the estimate, the first step of a run that is not taken over."""


def test_what_differs_or_is_damaged_or_gone_is_done_again(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object) -> None:
        raise Begun

    def assert_not_taken_over(folder: str, overrides: list[str]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("advunlearn.train.announce", begin)
            with pytest.raises(Begun):
                again(folder, overrides)

    labels = np.arange(240) % 4
    images = (40 * labels[:, None, None] + np.zeros((240, 8, 8))).astype(np.uint8)
    np.savez("mine.npz", images=images, labels=labels)
    own = [*QUICK, "dataset=npz", "dataset.path=mine.npz"]
    advunlearn.run(own, "own")
    assert stages(again("same", own)) == ["data", "run"]
    np.savez("mine.npz", images=images + 1, labels=labels)
    assert_not_taken_over("other data", own)

    first = advunlearn.run(QUICK, "first")
    for override in ("seed=1", "unlearner.alpha=1", "attack=[threshold,classifier]", "model.hidden=9"):
        assert_not_taken_over(override, [*QUICK, override])
    (first.folder / "scores.npz").write_bytes(b"")
    assert_not_taken_over("damaged", QUICK)
    assert "run" not in stages(again("done again"))
    shutil.rmtree("done again")
    assert_not_taken_over("gone", QUICK)


def test_metrics_of_an_older_version_are_computed_again(workplace: Path) -> None:
    first = advunlearn.run(QUICK, "first")
    files = [first.folder / name for name in ("metrics.json", "manifest.json")]
    metrics, manifest = (json.loads(file.read_text()) for file in files)
    del metrics["seconds"]
    files[0].write_text(json.dumps(metrics))
    manifest["checksums"]["metrics.json"] = file_digest(files[0])
    files[1].write_text(json.dumps(manifest))
    second = again("second")
    assert "run" not in stages(second)
    assert second.metrics == first.metrics
