"""LiRA with few shadow models: AUC, and TPR at 1 % FPR in percent, of each choice of variance.

    python scripts/lira_variances.py            # simulated, about 2 minutes on one core, then digits, 10 seeds
    python scripts/lira_variances.py --runs 2   # faster, and noisier

Simulated: each of 20,000 examples has normal margins. Their deviation is log-normal over examples, with a spread of
--spread, on the side OUT; on the side IN it is the same, or 0.7 of it. Being a member adds |z| deviations, z standard
normal. `oracle` is the ratio of the true densities. Half of the examples are members of the attacked model.

Digits: the original model, its 250 training examples against the test examples of the shadow models' pool; mean over
seeds and half of the 95 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from advunlearn.attacks.lira import VARIANCES, log_likelihood_ratio
from advunlearn.attacks.statistics import query_margins
from advunlearn.config.compose import experiment_from
from advunlearn.evaluation.metrics import roc, tpr_at_fpr
from advunlearn.report.plain_text import align
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.data import prepare
from advunlearn.stages.original import original
from advunlearn.stages.shadows import shadow_set

Floats = NDArray[np.float64]
PER_SIDE = (2, 4, 8, 16, 32)
SHADOWS = (4, 8, 16, 32)  # of digits, both sides together
INSIDE = (1.0, 0.7)  # the deviation IN over that OUT


def main() -> None:
    """Print a table for each deviation IN, and that of digits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8, help="of which the means are printed")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=10, help="of digits; 0 leaves it out")
    parser.add_argument("--spread", type=float, default=0.4, help="of the logarithm of the deviation over examples")
    options = parser.parse_args()
    for inside in INSIDE:
        print(f"deviation IN: {inside:g} times that OUT; AUC / TPR at 1 % FPR in %")
        rows = [["models per side", "oracle", *VARIANCES]]
        for models in PER_SIDE:
            found = [simulated(models, inside, options.examples, options.spread, seed) for seed in range(options.runs)]
            means = np.mean([list(each.values()) for each in found], axis=0)
            rows.append([str(models), *(f"{auc:.3f} / {100 * tpr:4.1f}" for auc, tpr in means)])
        print("\n".join(align(rows)), end="\n\n")
    if options.seeds:
        print("digits; AUC / TPR at 1 % FPR in %")
        print("\n".join(align(digits(range(1, options.seeds + 1)))))


def simulated(models: int, inside: float, examples: int, spread: float, seed: int) -> dict[str, tuple[float, float]]:
    """Return AUC and TPR at 1 % FPR of the oracle and of each variance, with so many models per side."""
    rng = np.random.default_rng(seed)
    outside = np.exp(spread * rng.normal(size=examples))
    shift, within = np.abs(rng.normal(size=examples)) * outside, inside * outside
    member = np.arange(examples) < examples // 2
    membership = np.repeat(np.arange(2 * models)[:, None] < models, examples, 1)

    def drawn(where: NDArray[np.bool_]) -> Floats:
        return np.where(where, shift, 0.0) + np.where(where, within, outside) * rng.normal(size=where.shape)

    shadows, target = drawn(membership)[..., None], drawn(member)[:, None]
    scores = {
        "oracle": norm.logpdf(target[:, 0], shift, within) - norm.logpdf(target[:, 0], 0, outside),
        **{each: log_likelihood_ratio(target, shadows, membership, center="mean", variance=each) for each in VARIANCES},
    }
    return {name: measured(each, member) for name, each in scores.items()}


def measured(scores: Floats, member: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUC and TPR at 1 % FPR."""
    return roc(scores, member)["auc"], tpr_at_fpr(scores, member, 0.01).tpr


def digits(seeds: Iterable[int]) -> list[list[str]]:
    """Return the table of digits: a row for each number of shadow models, the headings first."""
    found: dict[int, list[list[tuple[float, float]]]] = {models: [] for models in SHADOWS}
    for seed in seeds:
        target, shadows, membership, member = margins_of(seed)
        for models, rows in found.items():
            ratios = [
                log_likelihood_ratio(target, shadows[:models], membership[:models], variance=each) for each in VARIANCES
            ]
            rows.append([measured(each, member) for each in ratios])
    table = [["shadow models", *VARIANCES]]
    for models, rows in found.items():
        values = np.array(rows)  # (seeds, variances, 2)
        half = t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
        pairs = zip(values.mean(0), half, strict=True)
        cells = [f"{auc:.3f} ± {a:.3f} / {100 * tpr:4.1f} ± {100 * b:3.1f}" for (auc, tpr), (a, b) in pairs]
        table.append([str(models), *cells])
    return table


def margins_of(seed: int) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the margins of a seed's original model (n, 1) and shadow models (k, n, 1), their membership, the members.

    The models are in the store.
    """
    experiment = experiment_from([f"seed={seed}", "attack=lira", f"attack.shadows={max(SHADOWS)}"])
    settings = experiment.settings
    with (
        tempfile.TemporaryDirectory() as folder,
        Manifest(Path(folder), {"call": "lira_variances"}) as manifest,
        clean_state(settings.seed),
        settings.switches(),
    ):
        experiment, trainer, splits = prepare(experiment, manifest)
        models = shadow_set(experiment, trainer, splits)
        rows = np.sort(models.pool)
        network, _ = original(experiment, trainer, splits)
        outputs, labels = models.observe(rows), trainer.pool.labels[rows]
        target = query_margins(trainer.logits(network, rows, 1), labels)
    shadows = np.stack([query_margins(logits, labels) for logits in outputs.logits])
    return target, shadows, outputs.membership, np.isin(rows, splits.train)


if __name__ == "__main__":
    main()
