"""Stage `retained`: the attacks once more, on examples that are kept. Does unlearning expose those who stay?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.attacks.attack import Attack, Observations, Outputs, WhiteBox
from advunlearn.config.experiment import Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.splits import Splits
from advunlearn.evaluation.attack_metrics import AttackMetrics
from advunlearn.evaluation.comparison import measure_attack, primary
from advunlearn.evaluation.further_metrics import Retained
from advunlearn.evaluation.names import MODELS
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.stages.attack import attack_key, score_model, split_scores
from advunlearn.stages.shadows import original_set, shadow_set
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer

RETAINED_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`
MOST_EXAMPLES = 2000  # an AUC of one half against as many test examples then has a standard error of 0.009


def attack_retained(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest
) -> Retained | None:
    """Return what the attacks find of retained examples, against test examples; None if it was not asked for.

    Removing examples can expose others, which were hidden behind them. Retraining has this effect as well, and a method
    that fine-tunes on the retain set fits it once more, so that its examples are more exposed than before.

    References:
        [carlini2022onion] N. Carlini, M. Jagielski, C. Zhang, N. Papernot, A. Terzis and F. Tramer, "The Privacy Onion
            Effect: Memorization is Relative", NeurIPS 2022. https://arxiv.org/abs/2206.10469
        [gu2025] Y. Gu, J. He and K. Chen, "Auditing Approximate Machine Unlearning for Differentially Private Models",
            2025. https://arxiv.org/abs/2508.18671 (retained examples of unlearned models)
    """
    if not experiment.audits.retained:
        return None
    rows, members = retained_rows(splits, trainer.pool.labels, experiment.seed_of("audit"))
    experiment = replace(experiment, attacks=usable(experiment.attacks, members))
    originals = original_set(experiment, trainer, splits)
    key = {
        **attack_key(experiment, splits, models.artefacts, originals),
        "retained": [RETAINED_SCHEMA, index_digest(rows)],
    }
    with manifest.stage("retained") as stage:
        kept = trainer.store.get_or_make(
            "retained", key, lambda: scores(experiment, trainer, splits, models, rows, members)
        )
        stage.note(reused=kept.reused, artefact=kept.digest)
    return {
        "models": {name: measured(experiment, kept.arrays, name, members) for name in MODELS},
        "examples": {"retain": int(members.sum()), "test": int((~members).sum())},
    }


def retained_rows(splits: Splits, labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows under attack, and which of them are retained: a sample, and comparable test examples."""
    sample = np.sort(numpy_stream(seed, "retained").permutation(np.sort(splits.retain))[:MOST_EXAMPLES])
    inside, outside, _ = comparable(labels[sample], labels[splits.test])
    return np.concatenate([sample[inside], splits.test[outside]]), np.arange(len(inside) + len(outside)) < len(inside)


def usable(attacks: dict[str, Attack], members: NDArray[np.bool_]) -> dict[str, Attack]:
    """Return the attacks that need no further models and can be asked about retained examples.

    Not those that are fitted to the retain set, that unlearn models, or that ask what has changed since the original.
    """

    def able(attack: Attack) -> bool:
        if attack.needs_originals or attack.needs_retain or attack.needs_original:
            return False
        try:
            attack.check(members)
        except UserError:
            return False
        return True

    return {name: attack for name, attack in attacks.items() if able(attack)}


def scores(
    experiment: Experiment,
    trainer: Trainer,
    splits: Splits,
    models: Models,
    rows: NDArray[np.int64],
    members: NDArray[np.bool_],
) -> Artefact:
    """Return the artefact with the member scores (n,) of every attack on every model, by `model/attack`."""
    shadows: ShadowOutputs | None = None
    if experiment.needs_shadows:
        shadows = shadow_set(experiment, trainer, splits).observe(rows, splits.selection)
    arrays: dict[str, NDArray[Any]] = {}
    for name, network in models.networks.items():
        target = observed(experiment, trainer, splits, network, rows, members)
        found, _ = score_model(experiment, target, shadows)
        arrays |= {f"{name}/{key}": score for key, score in found.items()}
    return Artefact({}, {}, arrays)


def observed(
    experiment: Experiment,
    trainer: Trainer,
    splits: Splits,
    network: nn.Module,
    rows: NDArray[np.int64],
    members: NDArray[np.bool_],
) -> Observations:
    """Return what the attacks see of one model, with retained examples as the members."""
    labels, queries = trainer.pool.labels, experiment.shadow_options.queries

    def outputs_of(where: NDArray[np.int64]) -> Outputs:
        return Outputs(trainer.logits(network, where, queries), labels[where])

    attacked = outputs_of(rows)
    return Observations(
        attacked.logits,
        attacked.labels,
        members,
        population=outputs_of(splits.selection) if len(splits.selection) else None,
        white_box=WhiteBox(network, trainer.examples.subset(rows)),
    )


def measured(
    experiment: Experiment, arrays: dict[str, NDArray[Any]], model: str, members: NDArray[np.bool_]
) -> dict[str, AttackMetrics]:
    """Return the numbers of each attack's primary score on one model."""
    own = {key.removeprefix(f"{model}/"): array for key, array in arrays.items() if key.startswith(f"{model}/")}
    _, found = split_scores(own)
    return {
        name: measure_attack(
            found[name],
            members,
            seed=experiment.seed_of("audit"),
            cross_fitted=experiment.attacks[name].cross_fitted,
            shadows=experiment.shadow_options.shadows * experiment.attacks[name].needs_shadows,
        )
        for name in primary(found)
    }
