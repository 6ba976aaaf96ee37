"""Stage `distributions`: many unlearned against many retrained models, from the shadow originals of U-LiRA."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.statistics import query_margins
from advunlearn.config.experiment import Experiment
from advunlearn.data.splits import Splits
from advunlearn.evaluation.distributions import epsilons, forgetting_quality, klom
from advunlearn.evaluation.further_metrics import DistributionMetrics, Distributions
from advunlearn.evaluation.names import MODELS, ModelName, PartName
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Floats, Mask, Rows
from advunlearn.shadows.originals import OriginalSet
from advunlearn.shadows.outputs import UnlearnedOutputs
from advunlearn.stages.attack import Evidence
from advunlearn.stages.shadows import original_set
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer

DISTRIBUTIONS_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`
# With fewer, each example has fewer than 32 unlearned models: 20 bins of so few samples are noise.
LEAST_ORIGINALS = 64


def compare_distributions(
    experiment: Experiment, trainer: Trainer, splits: Splits, evidence: Evidence, manifest: Manifest
) -> Distributions | None:
    """Return KLoM and forgetting quality, from the store if available; None for a run without shadow originals.

    The papers fix one forget set, and train, unlearn and retrain on the same examples. The models here are the shadow
    originals of `OriginalSet`, each with random halves of the data and a forget set of its own. So the compared
    distributions are those of an example's margin over the random data as well, among the originals that

    - forgot it, for the examples of the run's forget set (`forget`): the unlearned model against the retrained one;
    - kept it, for test examples that were drawn into the originals' training sets (`retain`);
    - never saw it, for the same test examples (`test`).

    Both sides have the same data, hence a perfect unlearner has the same distribution as retraining. But the data add
    variance to both, which hides small differences: numbers are not comparable with those of the papers.
    """
    if not experiment.needs_originals:
        return None
    key = {"schema": DISTRIBUTIONS_SCHEMA, "attack": evidence.artefact.digest}  # which the originals determine
    originals = original_set(experiment, trainer, splits)
    with manifest.stage("distributions") as stage:
        kept = trainer.store.get_or_make("distributions", key, lambda: Artefact(dict(measure(originals)), {}, {}))
        stage.note(reused=kept.reused, artefact=kept.digest)
    return cast("Distributions", kept.record)


def measure(originals: OriginalSet) -> Distributions:
    """Return the numbers of the shadow originals, or the reason why they have none."""
    others = np.intersect1d(originals.rows.rest, originals.test)
    if reason := _reason(originals, others):
        return {"models": {}, "reason": reason, "each": originals.count // 2, "examples": {}}
    found = originals.observe(np.concatenate([originals.forget, others]))
    labels = originals.trainer.pool.labels[np.concatenate([originals.forget, others])]
    forgotten = np.arange(len(labels)) < len(originals.forget)
    parts = [originals.rows.parts(index) for index in range(originals.count)]
    kept = np.stack([np.isin(others, retain) for retain, _ in parts])
    roles: dict[PartName, tuple[Mask, Mask]] = {
        "forget": (forgotten, found.membership[:, forgotten]),
        "retain": (~forgotten, kept),
        "test": (~forgotten, ~kept),
    }
    return {
        "models": _of_models(found, labels, roles),
        "reason": "",
        "each": originals.count // 2,
        "examples": {part: int(where.sum()) for part, (where, _) in roles.items()},
    }


def _reason(originals: OriginalSet, others: Rows) -> str:
    """Return why the originals have no numbers, in words; empty if they have."""
    if originals.count < LEAST_ORIGINALS:
        return f"{originals.count} shadow originals are too few (try attack.originals={LEAST_ORIGINALS})"
    if len(others) == 0:
        return "no test examples are left that shadow originals can keep"
    return ""


def _of_models(
    found: UnlearnedOutputs, labels: NDArray[np.int64], roles: dict[PartName, tuple[Mask, Mask]]
) -> dict[ModelName, DistributionMetrics]:
    logits: dict[ModelName, NDArray[np.float32]] = {
        "original": found.original,
        "retrained": found.retrained_again,
        "unlearned": found.logits,
    }
    retrained = _by_part(found.retrained, labels, roles)
    return {name: compare(_by_part(logits[name], labels, roles), retrained) for name in MODELS}


def _by_part(
    logits: NDArray[np.float32], labels: NDArray[np.int64], roles: dict[PartName, tuple[Mask, Mask]]
) -> dict[PartName, tuple[Floats, Floats]]:
    """Return margins and correctness (k, n) of each part's examples, NaN for models in which they have another role."""
    margins, right = query_margins(logits[:, :, :1], labels)[..., 0], logits[:, :, 0].argmax(-1) == labels
    return {
        part: (np.where(role, margins[:, where], np.nan), np.where(role, right[:, where], np.nan))
        for part, (where, role) in roles.items()
    }


def compare(
    models: dict[PartName, tuple[Floats, Floats]], retrained: dict[PartName, tuple[Floats, Floats]]
) -> DistributionMetrics:
    """Return the numbers of k models against k retrained ones: margins and correctness (k, n) by part of the data.

    A percentile of KLoM is over the examples, as in the code of its authors; the ratios of the competition's score are
    those of mean accuracies over models.
    """
    divergence = {part: klom(models[part][0], retrained[part][0]) for part in models}
    found = epsilons(models["forget"][0], retrained["forget"][0])
    each = int((~np.isnan(models["forget"][0])).sum(0).max())
    quality = forgetting_quality(found, each)
    ratios = [_accuracy(models[part][1]) / _accuracy(retrained[part][1]) for part in ("retain", "test")]
    return {
        "klom": {part: float(np.nanpercentile(each, 95)) for part, each in divergence.items()},
        "forgetting_quality": quality,
        "competition_score": quality * float(np.prod(ratios)),
    }


def _accuracy(right: Floats) -> float:
    """Return the mean over models (k, n) of the share of their examples that are right."""
    return float(np.nanmean(right, axis=1).mean())
