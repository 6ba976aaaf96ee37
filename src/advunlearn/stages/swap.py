"""Stage `swap`: once more with forget and test examples in each other's place, so that retraining scores exactly 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from torch import nn

from advunlearn.attacks.statistics import cross_entropy
from advunlearn.attacks.threshold import best_threshold
from advunlearn.config.experiment import Experiment
from advunlearn.data.by_class import positions_by_class
from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import Advantage, Swap
from advunlearn.evaluation.metrics import CONFIDENCE
from advunlearn.evaluation.names import MODELS, ModelName
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Floats, Mask, Rows
from advunlearn.runtime.curves import unheard
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.stages.unlearn import Models, reference_set, unlearn
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer

SWAP_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`


@dataclass(frozen=True)
class Swapped:
    """The splits of a run with its forget set in the place of as many test examples of the same classes, `taken`."""

    splits: Splits
    taken: Rows


def swap(experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest) -> Swap | None:
    """Return the advantage of an attacker over both splits of a swap; None if it was not asked for.

    With F the forget set and T as many test examples, a second original is trained on retain set and T, and T is
    unlearned from it. An attacker that answers 1 for the examples it takes for forgotten ones has the advantage

        Adv = |mean over (F, T) and (T, F) of Pr[1 | forgotten] - Pr[1 | not seen]|

    The retrained model of both splits is the same, hence its advantage is 0, whatever the attacker is: what makes
    the forget set easier than the test set cancels.

    The attacker compares the loss with a threshold that best tells the retain set from the selection set, which are
    the same in both splits.

    References:
        [tu2025] Y. Tu, P. Hu and J. W. Ma, "A Reliable Cryptographic Framework for Empirical Machine Unlearning
            Evaluation", NeurIPS 2025. https://arxiv.org/abs/2404.11577 (the SWAP test)
    """
    if not experiment.audits.swap:
        return None
    with manifest.stage("swap") as stage:
        second, swapped = swapped_models(experiment, trainer, splits)
        artefacts = [models.artefacts, second.artefacts]
        key = {
            "schema": SWAP_SCHEMA,
            "models": [{name: [each.digest, each.content] for name, each in found.items()} for found in artefacts],
            "rows": {"retain": index_digest(splits.retain), "selection": index_digest(splits.selection)},
            "swapped": [index_digest(splits.forget), index_digest(swapped.taken)],
        }
        rows = np.concatenate([splits.forget, swapped.taken])
        networks = [models.networks, {**second.networks, "retrained": models.networks["retrained"]}]
        kept = trainer.store.get_or_make("swap", key, lambda: answers(trainer, splits, networks, rows))
        stage.note(reused=kept.reused, artefact=kept.digest)
    first = np.arange(len(rows)) < len(splits.forget)
    found: dict[ModelName, Advantage] = {
        name: advantage(kept.arrays[f"{name}/0"], kept.arrays[f"{name}/1"], first) for name in MODELS
    }
    return {"models": found, "examples": int(first.sum())}


def swapped_splits(splits: Splits, labels: NDArray[np.int64], seed: int) -> Swapped:
    """Return the splits after the swap.

    Raises:
        UserError: in one line, if the test set has too few examples of a class of the forget set.
    """
    rng, available = numpy_stream(seed, "swap"), positions_by_class(labels[splits.test])
    chosen = []
    for label, own in positions_by_class(labels[splits.forget]).items():
        found = available.get(label, np.array([], dtype=np.int64))
        if len(found) < len(own):
            raise UserError(
                f"audits.swap needs {len(own)} test examples of class {label}, as many as are forgotten, and there are "
                f"{len(found)} (lower forget.fraction)"
            )
        chosen.append(splits.test[rng.permutation(found)[: len(own)]])
    taken = np.sort(np.concatenate(chosen))
    test = np.union1d(np.setdiff1d(splits.test, taken), splits.forget)
    return Swapped(Splits(splits.retain, taken, splits.audit, splits.selection, test), taken)


def swapped_models(experiment: Experiment, trainer: Trainer, splits: Splits) -> tuple[Models, Swapped]:
    """Return the original and the unlearned model after the swap, from the store if available."""
    swapped = swapped_splits(splits, trainer.pool.labels, experiment.settings.seed)
    own = swapped.splits
    models = Models({}, {}, reference_set(experiment, trainer, own, own.forget))
    with unheard():
        for name in ("original", "unlearned"):
            network, artefact = (
                trainer.train(own.train, name) if name == "original" else unlearn(experiment, trainer, own, models)
            )
            models.networks[name], models.artefacts[name] = network, artefact
    return models, swapped


def answers(trainer: Trainer, splits: Splits, networks: Sequence[Mapping[str, nn.Module]], rows: Rows) -> Artefact:
    """Return the artefact with what the attacker answers on the rows, by `model/0` before and `model/1` after."""
    return Artefact(
        {},
        {},
        {
            f"{name}/{side}": answer(trainer, splits, found[name], rows)
            for side, found in enumerate(networks)
            for name in MODELS
        },
    )


def answer(trainer: Trainer, splits: Splits, network: nn.Module, rows: Rows) -> Mask:
    """Return whether the attacker takes each row for one that the model was trained on."""

    def scores(where: Rows) -> Floats:
        return -cross_entropy(trainer.logits(network, where, 1)[:, 0], trainer.pool.labels[where])

    return scores(rows) >= best_threshold(scores(splits.retain), scores(splits.selection))


def advantage(before: Mask, after: Mask, first: Mask) -> Advantage:
    """Return the attacker's advantage and its 95 % interval.

    An example counts by the difference of its two answers, so that its own difficulty adds no variance. The interval is
    the normal one of the mean, over the examples of both sides.

    Args:
        before, after: (n,), the answers with the model before and after the swap.
        first: (n,), whether the example was forgotten before the swap; the others were after it.
    """
    signs = np.where(first, 1.0, -1.0)
    change = signs * (before.astype(float) - after.astype(float))
    sides = [change[first], change[~first]]
    value = abs(float(np.mean([each.mean() for each in sides])))
    variance = sum(float(each.var(ddof=1)) / len(each) if len(each) > 1 else 1.0 for each in sides) / 4
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * variance**0.5
    return {"advantage": value, "advantage_low": max(value - half, 0.0), "advantage_high": min(value + half, 1.0)}
