"""Thresholds of attacks: those at which they would call examples of shadow models members."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack, Observations, Outputs
from advunlearn.config.experiment import Experiment
from advunlearn.evaluation.attack_metrics import Threshold
from advunlearn.evaluation.operating import threshold_of
from advunlearn.runtime.arrays import Floats
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs

TARGETS = 16  # shadow models that take the place of the target in turn: with 50 non-members each, 800 scores


def shadow_thresholds(
    experiment: Experiment,
    labels: NDArray[np.int64],
    population: NDArray[np.int64],
    shadows: ShadowOutputs | None,
    unlearned: UnlearnedOutputs | None,
) -> dict[str, Threshold]:
    """Return the threshold of each attack that has shadow models or originals, at a false-positive rate of 1 % there.

    Shadow models take the place of the target in turn, and are attacked with the others, without their complement. The
    scores of the examples that they were not trained on, or did not forget, choose the threshold: no score of the
    target has a part in it. An attack on the network or with the retain set has no threshold: shadow models have
    neither here.

    Args:
        experiment: with the attacks.
        labels, population: (n,) and (z,), labels of the attacked examples and of the population.
        shadows, unlearned: the models of the attacks, if they need them.
    """
    found = {}
    for name, attack in experiment.attacks.items():
        models = unlearned if attack.needs_originals else shadows if attack.needs_shadows else None
        if models is None or attack.needs_network or attack.needs_retain:
            continue
        rng = numpy_stream(experiment.seed_of("audit"), f"threshold/{name}")
        threshold = threshold_of(list(_nonmember_scores(attack, models, labels, population, rng)))
        if threshold is not None:
            found[name] = threshold
    return found


def _nonmember_scores(
    attack: Attack,
    models: ShadowOutputs,
    labels: NDArray[np.int64],
    population: NDArray[np.int64],
    rng: np.random.Generator,
) -> Iterator[Floats]:
    """Yield the scores of the non-members of each shadow model that takes the place of the target."""
    count = len(models.logits)
    if count < 4:
        return
    for index in range(min(count, TARGETS)):
        rest = without_pair(models, index // 2)
        target = Observations(
            models.logits[index],
            labels,
            models.membership[index],
            population=Outputs(models.population[index], population) if len(population) else None,
        )
        score = attack.score(target, rest, rng)[""]
        yield score[~models.membership[index] & rest.membership.any(0) & ~np.isnan(score)]


def without_pair(models: ShadowOutputs, pair: int) -> ShadowOutputs:
    """Return the outputs without models 2 pair and 2 pair + 1, which are complementary."""
    kept = np.arange(len(models.logits)) // 2 != pair
    arrays = {name: each[kept] for name, each in vars(models).items() if isinstance(each, np.ndarray)}
    return replace(models, **arrays)
