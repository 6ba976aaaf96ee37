"""The control and the probe of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.evaluation.metrics import auc_interval
from advunlearn.options import ConfigError
from advunlearn.stages.estimate import before_a_run

QUICK = ["attack=threshold", "model.hidden=32", "optimizer.epochs=5", "unlearner=none", "threads=1"]


def test_the_last_retrained_model_goes_through_every_attack_as_a_candidate(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *args: {})
    whole = advunlearn.run([*QUICK, "attack.retrained=3"])
    plain = advunlearn.run(QUICK)
    assert whole.metrics["models"] == plain.metrics["models"]
    assert "control" not in plain.metrics
    assert "neighbours" not in plain.metrics  # no whole class is forgotten
    found = whole.metrics["control"]
    assert found["models"] == 3
    with np.load(whole.folder / "scores.npz") as scores:
        members = scores["member"]
        aucs = [
            auc_interval(score[members], score[~members])[0]
            for score in (scores[f"{name}/threshold"] for name in ("retrained", "repeat1", "repeat2"))
        ]
        loss = -scores["retrained/loss"]
    assert len(set(aucs)) == 3
    assert found["attacks"]["threshold"]["auc"] == pytest.approx(aucs[2])
    assert found["attacks"]["threshold"]["reference"] == pytest.approx((aucs[0] + aucs[1]) / 2)
    probed = whole.metrics["probe"]
    assert probed["attacks"]["loss"]["auc"] == pytest.approx(auc_interval(loss[members], loss[~members])[0])
    assert set(probed["attacks"]) == {"loss", "threshold"}
    assert probed["sampled"]
    assert "control" in (whole.folder / "report.html").read_text()
    lines = before_a_run(experiment_from([*QUICK, "attack.retrained=3"])).estimate().lines
    assert [line.name for line in lines if line.name.startswith("retrained")] == [
        "retrained",
        "retrained, repeat1",
        "retrained, repeat2",
    ]
    assert not any(line.missing for line in lines)


def test_two_retrained_models_are_a_mistake() -> None:
    with pytest.raises(
        ConfigError, match=r"attack.retrained must be 1 or at least 3, got 2 \(try attack.retrained=3\)"
    ):
        advunlearn.run([*QUICK, "attack.retrained=2"])
