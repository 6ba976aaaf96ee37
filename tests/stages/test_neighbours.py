"""Stage `neighbours`: which examples and models are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import advunlearn
from advunlearn.data.digits import Digits
from advunlearn.data.splits import Splits
from advunlearn.evaluation.neighbours import distances, nearest_other


def test_a_forgotten_class_is_compared_with_all_retrained_models(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def watched(logits: np.ndarray, forgotten: np.ndarray) -> np.ndarray:
        assert forgotten.tolist() == [3]
        seen.append(nearest_other(logits, forgotten))
        return seen[-1]

    monkeypatch.setattr("advunlearn.stages.neighbours.nearest_other", watched)
    monkeypatch.setattr("advunlearn.stages.report.draw_pictures", lambda *args: {})
    words = ["forget=class", "forget.classes=[3]", "attack=threshold", "attack.retrained=3", "unlearner=none"]
    result = advunlearn.run([*words, "optimizer.epochs=5", "threads=1"])
    found = result.metrics["neighbours"]
    splits, labels = Splits.load(result.folder / "splits.npz"), Digits().load().labels
    assert found["examples"] == len(splits.forget) + (labels[splits.test] == 3).sum()
    original, retrained, *repeats, unlearned = seen
    np.testing.assert_array_equal(original, unlearned)
    others = np.stack([retrained, *repeats])
    assert len(original) == found["examples"]
    assert found["references"] == 3
    assert found["models"]["original"]["distance"] == distances(np.vstack([original, others]), 10)[0]
    assert found["floor"] == distances(others, 10).max()
    assert found["models"]["unlearned"] == found["models"]["original"]
