"""Folders of runs that nobody computed: what a report reads of a run, with numbers that a test chooses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from advunlearn.evaluation.comparison import gap, measure_attack
from advunlearn.evaluation.metrics_file import Metrics, ModelMetrics
from advunlearn.evaluation.names import MODELS
from advunlearn.storage.files import write_json


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
) -> Metrics:
    """Return what `metrics.json` holds; the retrained model has an AUC of one half and a test accuracy of 0.95.

    Args:
        gaps, before: the unlearned and the original model's gaps by attack.
        test: the unlearned model's test accuracy.
        time, references: over that of retraining.
    """
    before = before or dict.fromkeys(gaps, 0.3)
    off = {"original": before, "retrained": dict.fromkeys(gaps, 0.0), "unlearned": gaps}
    accuracies = {"original": 0.96, "retrained": 0.95, "unlearned": test}
    models: Any = {model: _model(accuracies[model], off[model]) for model in MODELS}
    return {
        "schema": 1,
        "models": models,
        "gap": {
            "original": gap(models["original"], models["retrained"]) | {"attacks": before},
            "unlearned": gap(models["unlearned"], models["retrained"]) | {"attacks": gaps},
        },
        "algorithm": {},
        "seconds": {"pretrain": 2.0, "retrain": 2.0, "unlearn": 2 * time, "shadows": 0.0, "attack": 1.0},
        "unlearning_over_retraining": time,
        "references_over_retraining": references,
        "trace": trace or {},
    }


def _model(test: float, gaps: dict[str, float]) -> ModelMetrics:
    """Return a model's metrics; but for accuracies and the attacks' AUCs they are any that the file may hold."""
    any_attack = measure_attack(np.arange(20), np.arange(20) < 10, seed=0, cross_fitted=False)
    return {
        "accuracy": {"retain": 1.0, "forget": 0.9, "test": test},
        "accuracy_low": {"retain": 0.9, "forget": 0.8, "test": 0.5},
        "accuracy_high": {"retain": 1.0, "forget": 1.0, "test": 1.0},
        "examples": {"retain": 200, "forget": 50, "test": 500},
        "loss_ks": 0.1,
        "loss_wasserstein": 0.2,
        "attacks": {name: {**any_attack, "auc": 0.5 + gap} for name, gap in gaps.items()},
    }


def write(
    folder: Path,
    config: dict[str, Any],
    metrics: Metrics | None = None,
    status: str = "completed",
    error: str | None = None,
    finished: str = "2025-01-01T00:00:00+00:00",
) -> Path:
    """Write a run's folder and return it."""
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    (folder / "manifest.json").write_text(json.dumps({"status": status, "error": error, "finished": finished}))
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)
    return folder
