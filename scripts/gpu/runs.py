"""Steps: whole runs, and the tests that need a GPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import advunlearn
from advunlearn.config.compose import experiment_from
from advunlearn.data.cifar10 import Cifar10
from advunlearn.report.run.result import Result
from gpu.bench import NEEDS_CUDA, Bench, Found


def default_run(bench: Bench) -> Found:
    """Run the default experiment on the CPU and on the device, with LiRA, and compare what it reports."""
    words = ["attack=[threshold,lira]", f"attack.shadows={4 if bench.tiny else 16}"]
    if bench.tiny:
        words += ["model.hidden=8", "optimizer.epochs=2", "unlearner.epochs=1"]
    rows = []
    for device in dict.fromkeys(["cpu", bench.device.type]):
        rows += [{"device": device, **row} for row in run_rows(run(bench, f"digits-{device}", words, device))]
        bench.note({"rows": rows})
    half = len(rows) // 2 if bench.cuda else 0
    differences = [
        abs(value - other[name])
        for one, other in zip(rows[:half], rows[half:], strict=False)
        for name, value in one.items()
        if name not in ("device", "model", "seconds")
    ]
    largest = max(differences, default=0.0)
    return {"ok": largest <= 0.02, "largest difference": largest, "rows": rows}


def marked_tests(bench: Bench) -> Found:
    """Run the tests marked `gpu`."""
    if not bench.cuda:
        return NEEDS_CUDA
    root = Path(__file__).parents[2]
    if importlib.util.find_spec("pytest") is None:
        return {"skipped": "pytest is not installed"}
    # Without the options of pyproject.toml, which need pytest-xdist.
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-m", "gpu", "-rs", "tests/gpu"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, encoding="utf-8")
    counts = {
        f"tests {kind}": int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    return {
        "ok": done.returncode == 0 and counts.get("tests passed", 0) > 0,
        **counts,
        "output": done.stdout[-4000:] if done.returncode else "",
    }


def run(bench: Bench, name: str, words: Sequence[str], device: str) -> Result:
    """Run an experiment in a folder of its own; what other runs trained is taken from the store."""
    return advunlearn.run([*words, f"device={device}"], bench.out / "runs" / f"{name}-{time.time_ns()}")


def run_rows(result: Result) -> list[Found]:
    """Return a row for each of a run's models: seconds, accuracies, and each attack's AUC."""
    metrics = result.metrics
    stages = {"original": "pretrain", "retrained": "retrain", "unlearned": "unlearn"}
    return [
        {
            "model": name,
            "seconds": metrics["seconds"].get(stages[name]),
            **{f"accuracy {part}": value for part, value in model["accuracy"].items()},
            **{f"AUC {attack}": found["auc"] for attack, found in model["attacks"].items() if "/" not in attack},
        }
        for name, model in metrics["models"].items()
    ]


def unpack(bench: Bench) -> None:
    """Put CIFAR-10 into the cache, from the parts that `--data` names."""
    command = [sys.executable, "-m", "advunlearn", "data", "unpack", str(bench.data)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise ValueError((done.stderr or done.stdout).strip()[-500:])


def cifar10(bench: Bench, name: str, *words: str) -> Found:
    """Run a variant of `experiment=cifar10_resnet18`; with `tiny`, one of them, with a small network on digits."""
    if bench.tiny:
        chosen = ["model.hidden=8", "optimizer.epochs=1", "attack.shadows=4"]
        if name != "likelihood-ratio":
            experiment_from([*chosen, *words])
            return {"skipped": "composed, but not run: --tiny runs one variant"}
    else:
        if bench.data is not None and not Cifar10().is_here():
            unpack(bench)
        if not Cifar10().is_here():
            return {"skipped": "CIFAR-10 is not in the cache (try --data FOLDER)"}
        chosen = ["experiment=cifar10_resnet18", "attack.shadows=8"]
    result = run(bench, name, [*chosen, *words], bench.device.type)
    assert result.folder is not None
    manifest = json.loads((result.folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        "run": " ".join(["advunlearn run", *chosen, *words]),
        "unlearning / retraining": result.metrics["unlearning_over_retraining"],
        "references / retraining": result.metrics["references_over_retraining"],
        "stages (s)": ", ".join(f"{stage['name']} {stage['seconds']:.1f}" for stage in manifest["stages"]),
        "seconds (s)": ", ".join(f"{stage} {spent:.1f}" for stage, spent in result.metrics["seconds"].items()),
        "memory (GiB)": max(stage["peak_memory"] for stage in manifest["stages"]) / 2**30,
        "rows": run_rows(result),
    }


def cifar10_base(bench: Bench) -> Found:
    """Train the original and the retrained model."""
    return cifar10(bench, "base", "unlearner=none", "attack=threshold")


def cifar10_svm(bench: Bench) -> Found:
    """Play the game against the paper's auditor."""
    return cifar10(bench, "svm", "attack=threshold")


def cifar10_twin(bench: Bench) -> Found:
    """Fine-tune as the game does, without it."""
    return cifar10(bench, "twin", "unlearner.alpha=0", "attack=threshold")


def cifar10_lira(bench: Bench) -> Found:
    """Attack the game's model by LiRA, which trains the shadow models."""
    return cifar10(bench, "svm-lira", "attack=[threshold,lira]")


def cifar10_twin_lira(bench: Bench) -> Found:
    """Attack the twin by LiRA."""
    return cifar10(bench, "twin-lira", "unlearner.alpha=0", "attack=[threshold,lira]")


def cifar10_likelihood_ratio(bench: Bench) -> Found:
    """Play the game against `likelihood_ratio` with 8 reference models, and attack its model by LiRA."""
    words = ["auditor=likelihood_ratio", "auditor.references=8", "attack=[threshold,lira]"]
    return cifar10(bench, "likelihood-ratio", *words)
