"""What does an audit step cost beside an epoch of the retain set? `python scripts/bench_audit_step.py` prints a table.

An audit step is everything that the game adds to a step of fine-tuning: scoring forget and audit examples, the
auditor's answer, and the gradient through both.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

from advunlearn.manifest import Manifest
from advunlearn.overrides import experiment_from
from advunlearn.train import make_task, prepare, reference_set
from advunlearn.unlearners.sg import SG

SETTINGS = ([], ["experiment=cifar10_cpu", "optimizer.epochs=1"])
AUDITORS = ("svm", "logistic", "likelihood_ratio")


def seconds_of(overrides: list[str], epochs: int, repeats: int) -> tuple[float, float]:
    """Return the seconds of a retain epoch and of an audit step, medians over repeats."""
    experiment = experiment_from(overrides)
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder)) as manifest:
        trainer, splits = prepare(experiment, manifest)
    references = reference_set(experiment, trainer, splits, splits.forget)
    task = make_task(trainer, splits, splits.retain, splits.forget, references)
    assert isinstance(experiment.unlearner, SG)
    game = dataclasses.replace(experiment.unlearner, epochs=epochs, audit_every=1)
    network = trainer.train(splits.train, "original")[1]
    plain, played = [], []
    for _ in range(repeats):
        for times, unlearner in ((plain, dataclasses.replace(game, audit_every=10**9)), (played, game)):
            model = trainer.restore(network, "original")
            start = time.perf_counter()
            trace = unlearner.run(model, task).trace
            times.append(time.perf_counter() - start)
    epoch = statistics.median(plain) / epochs
    audit = statistics.median(b - a for a, b in zip(plain, played, strict=True)) / len(trace["step"])
    return epoch, audit


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print("| setting | auditor | retain epoch (ms) | audit step (ms) | audit step / epoch |\n|---|---|---|---|---|")
    for setting in SETTINGS:
        for auditor in AUDITORS:
            epoch, audit = seconds_of([*setting, f"auditor={auditor}"], options.epochs, options.repeats)
            name = setting[0].removeprefix("experiment=") if setting else "digits"
            print(f"| {name} | {auditor} | {1e3 * epoch:.1f} | {1e3 * audit:.1f} | {audit / epoch:.2f} |", flush=True)


if __name__ == "__main__":
    main()
