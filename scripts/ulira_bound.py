"""What bounds the auditor `calibrated`: U-LiRA's efficacy AUC of margins that are drawn from what its references give.

    python scripts/ulira_bound.py experiment=calibrated_cifar10_cpu seed=1
    python scripts/ulira_bound.py experiment=calibrated seed=1 --draws 10

It takes the options of `advunlearn run`, and trains what the store does not have. The margins of the unlearned models
on what they forgot are replaced by draws from a normal distribution for each example: with the mean and the deviation
over all reference models, over fewer of them, and with the mean over the retrained models themselves, which no
unlearner knows. 0.5 is the aim.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from advunlearn.attacks.statistics import query_margins
from advunlearn.attacks.ulira import cross_fitted_ratios
from advunlearn.auditors.calibrated import expected
from advunlearn.auditors.scores import reference_margins
from advunlearn.config.compose import experiment_from
from advunlearn.report.plain_text import align
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.shadows.outputs import UnlearnedOutputs
from advunlearn.stages.data import prepare
from advunlearn.stages.shadows import original_references, original_set

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as of advunlearn run, with attack=ulira or several")
    parser.add_argument("--draws", type=int, default=3, help="of which the means are printed")
    options = parser.parse_intermixed_args()
    print("\n".join(align([["margins", "efficacy AUC"], *rows(options.overrides, options.draws)])))


def rows(overrides: list[str], draws: int) -> list[list[str]]:
    """Return the table's lines."""
    outputs, margins, outside, labels = observed(overrides)
    judged = {
        "original": query_margins(outputs.original, labels),
        "retrained": query_margins(outputs.retrained_again, labels),
        "unlearned": query_margins(outputs.logits, labels),
    }
    retrained = query_margins(outputs.retrained, labels)
    table = [[name, f"{auc(each, retrained, outputs.membership):.3f}"] for name, each in judged.items()]

    rng = np.random.default_rng(0)

    def drawn(name: str, mean: Floats, deviation: Floats) -> list[str]:
        aucs = []
        for _ in range(draws):
            normal = mean[:, None] + deviation[:, None] * rng.standard_normal(retrained.shape)
            replaced = np.where(outputs.membership[..., None], normal, judged["unlearned"])
            aucs.append(auc(replaced, retrained, outputs.membership))
        return [f"drawn from {name}", f"{np.mean(aucs):.3f}"]

    for count in (len(margins) // 2, len(margins) * 3 // 4, len(margins)):
        if count == len(margins) or (outside[:count].sum(0) >= 2).all():
            mean, variance = expected(margins[:count], outside[:count])
            table.append(drawn(f"{count} references", mean.numpy(), variance.sqrt().numpy()))
    both = np.concatenate([retrained, judged["retrained"]])[..., 0]
    forgot = np.concatenate([outputs.membership] * 2)
    truth = np.where(forgot, both, 0.0).sum(0) / forgot.sum(0).clip(1)
    return [*table, drawn("the means of the retrained models", truth, variance.sqrt().numpy())]


def observed(overrides: list[str]) -> tuple[UnlearnedOutputs, torch.Tensor, torch.Tensor, NDArray[np.int64]]:
    """Return what the originals' models give, the references' margins (k, n) and which are OUT, and the labels (n,)."""
    experiment = experiment_from(overrides)
    settings = experiment.settings
    with (
        tempfile.TemporaryDirectory() as scratch,
        Manifest(Path(scratch), {"call": "ulira_bound"}) as manifest,
        clean_state(settings.seed),
        settings.switches(),
    ):
        experiment, trainer, splits = prepare(experiment, manifest)
        references = original_references(experiment, trainer, splits)
        if references is None:
            raise SystemExit("the unlearner uses no reference models; try experiment=calibrated")
        references.train()
        originals = original_set(experiment, trainer, splits)
        originals.train()
        candidates = originals.rows.candidates
        labels = trainer.pool.labels[candidates]
        margins, inside = reference_margins([references.observe(candidates)], [torch.as_tensor(labels)])
        return originals.observe(candidates), margins, ~inside, labels


def auc(unlearned: Floats, retrained: Floats, forgotten: NDArray[np.bool_]) -> float:
    """Return the efficacy AUC of U-LiRA of margins (k, n, q)."""
    inside, outside = cross_fitted_ratios(unlearned, retrained, forgotten, partner=False)
    inside, outside = inside[np.isfinite(inside)], outside[np.isfinite(outside)]
    members = np.arange(len(inside) + len(outside)) < len(inside)
    return float(roc_auc_score(members, np.concatenate([inside, outside])))


if __name__ == "__main__":
    main()
