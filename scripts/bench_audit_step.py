"""What does an audit step cost beside an epoch of the retain set? `python scripts/bench_audit_step.py` prints a table.

An audit step is everything that the game adds to a step of its base: scoring forget and audit examples, the auditor's
answer, and the gradient through both. The epoch is the base's alone, without any audit.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from advunlearn.auditors.auditor import Audit, Auditor
from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.data import prepare
from advunlearn.stages.unlearn import make_task, reference_set
from advunlearn.unlearners.sg import SG

SETTINGS = {  # name: overrides, and the epochs that each timing takes, for small networks to be measurable
    "digits, 250 images": ([], 20),
    "digits, 1000 images": (["dataset.train_size=1000"], 5),
    "cifar10_cpu": (["experiment=cifar10_cpu", "optimizer.epochs=1"], 1),
}
AUDITORS = ("none", "svm", "logistic", "likelihood_ratio", "neural")


class Mean(Auditor):
    """No auditor at all: the difference of mean scores. What it costs no auditor can save."""

    uninformed = 0.0

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return the difference; see `Auditor.utility`."""
        return Audit(member_scores.mean() - nonmember_scores.mean(), torch.tensor(0.5))


def seconds_of(overrides: list[str], auditor: str, epochs: int, repeats: int) -> tuple[float, float]:
    """Return the seconds of the base's epoch and of an audit step: the best of some repeats, taken in turns."""
    experiment = experiment_from(overrides if auditor == "none" else [*overrides, f"auditor={auditor}"])
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder)) as manifest:
        experiment, trainer, splits = prepare(experiment, manifest)
    references = reference_set(experiment, trainer, splits, splits.forget)
    task = make_task(trainer, splits, splits.retain, splits.forget, references)
    assert isinstance(experiment.unlearner, SG)
    game = dataclasses.replace(experiment.unlearner, epochs=epochs, audit_every=1)
    game = dataclasses.replace(game, auditor=Mean()) if auditor == "none" else game
    network = trainer.train(splits.train, "original")[1]
    plain: list[float] = []
    played: list[float] = []
    for _ in range(repeats):
        for times, unlearner in ((plain, game.leader()), (played, game)):
            model = trainer.restore(network, "original")
            start = time.perf_counter()
            trace = unlearner.run(model, task).trace
            if trainer.settings.torch_device().type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return min(plain) / epochs, (min(played) - min(plain)) / len(trace["step"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auditors", nargs="+", choices=AUDITORS, default=AUDITORS)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto", help="as in a run: auto, cpu, cuda or cuda:N")
    options = parser.parse_args()
    print("| setting | auditor | retain epoch (ms) | audit step (ms) | audit step / epoch |\n|---|---|---|---|---|")
    for name in options.settings:
        for auditor in options.auditors:
            overrides, epochs = SETTINGS[name]
            overrides = [*overrides, f"device={options.device}"]
            epoch, audit = seconds_of(overrides, auditor, epochs, options.repeats)
            print(f"| {name} | {auditor} | {1e3 * epoch:.1f} | {1e3 * audit:.1f} | {audit / epoch:.2f} |", flush=True)


if __name__ == "__main__":
    main()
