"""Is it what the auditor knows that helps, or any push? The game against an auditor told a shuffled membership.

    python scripts/bench_placebo.py [OVERRIDE...] [--seeds 5] [--alphas 1 3 10]

The placebo costs the same and pushes as hard, and it knows nothing: what it achieves is damage.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advunlearn.auditors.auditor import Audit
from advunlearn.auditors.svm import SVM
from advunlearn.config.compose import experiment_from
from advunlearn.runs.manifest import Manifest
from advunlearn.train import run_experiment
from advunlearn.unlearners.sg import SG


@dataclass
class Placebo(SVM):
    """The paper's auditor, told at every step another random half of the examples for members."""

    def utility(
        self,
        member_scores: Tensor,
        nonmember_scores: Tensor,
        member_labels: Tensor,
        nonmember_labels: Tensor,
        generator: torch.Generator,
    ) -> Audit:
        """Return the utility of an answer to a shuffled membership; see `Auditor.utility`."""
        scores = torch.cat([member_scores, nonmember_scores])
        labels = torch.cat([member_labels, nonmember_labels])
        mixed = torch.randperm(len(labels), generator=generator)
        members, others = mixed[: len(member_labels)], mixed[len(member_labels) :]
        return super().utility(scores[members], scores[others], labels[members], labels[others], generator)


def measured(overrides: Sequence[str], auditor: SVM, seed: int) -> tuple[float, float]:
    """Return LiRA's AUC on the unlearned model and its test accuracy."""
    experiment = experiment_from([*overrides, f"seed={seed}", "attack=lira"])
    assert isinstance(experiment.unlearner, SG)
    experiment = dataclasses.replace(experiment, unlearner=dataclasses.replace(experiment.unlearner, auditor=auditor))
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder)) as manifest:
        model = run_experiment(experiment, manifest).metrics["models"]["unlearned"]
    return model["attacks"]["lira"]["auc"], model["accuracy"]["test"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    options = parser.parse_args()
    print("| alpha | auditor | LiRA AUC, unlearned | test accuracy |\n|---|---|---|---|")
    for alpha in options.alphas:
        for auditor in (SVM(), Placebo()):
            overrides = [*options.overrides, f"unlearner.alpha={alpha:g}"]
            found = np.array([measured(overrides, auditor, seed) for seed in range(options.seeds)])
            cells = [f"{mean:.3f} ({sd:.3f})" for mean, sd in zip(found.mean(0), found.std(0, ddof=1), strict=True)]
            print(f"| {alpha:g} | {type(auditor).__name__} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
