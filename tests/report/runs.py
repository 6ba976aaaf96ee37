"""Folders of runs that nobody computed: what a report reads of a run, with numbers that a test chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

MODELS = ("original", "retrained", "unlearned")


def config(seed: int = 0, **options: Any) -> dict[str, Any]:
    """Return a config with a game in it; `unlearner__alpha=1` sets `unlearner.alpha`."""
    nested: dict[str, Any] = {
        "seed": seed,
        "device": "auto",
        "dataset": {"_target_": "advunlearn.data.digits.Digits", "train_size": 250},
        "unlearner": {
            "_target_": "advunlearn.unlearners.sg.SG",
            "alpha": 3.0,
            "auditor": {"_target_": "advunlearn.auditors.svm.SVM"},
        },
        "attack": {"shadows": 4, "shard": None, "lira": {"_target_": "advunlearn.attacks.lira.LiRA"}},
    }
    for key, value in options.items():
        *parents, last = key.split("__")
        node = nested
        for parent in parents:
            node = node[parent]
        node[last] = value
    return nested


def metrics(
    gaps: dict[str, float],
    before: dict[str, float] | None = None,
    test: float = 0.9,
    time: float = 0.5,
    references: float = 0.0,
    trace: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what `metrics.json` holds; the retrained model has an AUC of one half and a test accuracy of 0.95.

    Args:
        gaps, before: the unlearned and the original model's gaps by attack.
        test: the unlearned model's test accuracy.
        time, references: over that of retraining.
    """
    before = before or dict.fromkeys(gaps, 0.3)
    off = {"original": before, "retrained": dict.fromkeys(gaps, 0.0), "unlearned": gaps}
    accuracies = {"original": 0.96, "retrained": 0.95, "unlearned": test}
    return {
        "schema": 1,
        "models": {
            model: {
                "accuracy": {"test": accuracies[model], "forget": 0.9, "retain": 1.0},
                "attacks": {attack: {"auc": 0.5 + gap} for attack, gap in off[model].items()},
            }
            for model in MODELS
        },
        "gap": {model: {"attacks": off[model]} for model in ("original", "unlearned")},
        "unlearning_over_retraining": time,
        "references_over_retraining": references,
        "trace": trace or {},
    }


def write(
    folder: Path,
    config: dict[str, Any],
    metrics: dict[str, Any] | None = None,
    status: str = "completed",
    error: str | None = None,
    finished: str = "2025-01-01T00:00:00+00:00",
) -> Path:
    """Write a run's folder and return it."""
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    (folder / "manifest.json").write_text(json.dumps({"status": status, "error": error, "finished": finished}))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder
