"""The thresholds of attacks: from the scores of non-members of shadow models, without their complement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.lira import LiRA
from advunlearn.attacks.statistics import query_margins
from advunlearn.config.compose import experiment_from
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.stages.thresholds import shadow_thresholds, without_pair
from tests.attacks.test_attack import scene


@dataclass
class Margin(Attack):
    """The margin of the target, and what it was compared with."""

    seen: list[tuple[Observations, ShadowOutputs | None]] = field(default_factory=list)

    needs_shadows: ClassVar[bool] = True

    def score(
        self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        self.seen.append((target, shadows))
        return {"": query_margins(target.logits, target.labels)[:, 0]}


def found(attack: Attack, shadows: ShadowOutputs | None, labels: np.ndarray) -> dict[str, float]:
    experiment = replace(experiment_from(["attack=threshold"]), attacks={"own": attack})
    population = np.zeros(0 if shadows is None else shadows.population.shape[1], int)
    thresholds = shadow_thresholds(experiment, labels, population, shadows, None)
    return {name: each["value"] for name, each in thresholds.items()}


def test_the_threshold_is_that_of_the_nonmembers_of_shadow_models() -> None:
    target, shadows = scene()
    attack = Margin()
    margins = np.stack([query_margins(each, target.labels)[:, 0] for each in shadows.logits])
    outside = margins[~shadows.membership]
    value = found(attack, shadows, target.labels)["own"]
    assert value in outside
    assert (outside > value).mean() <= 0.01 < (outside >= value).mean()
    assert len(attack.seen) == len(shadows.logits)
    for index, (seen, rest) in enumerate(attack.seen):
        np.testing.assert_array_equal(seen.members, shadows.membership[index])
        assert rest is not None
        others = [other for other in range(len(shadows.logits)) if other // 2 != index // 2]
        np.testing.assert_array_equal(rest.logits, shadows.logits[others])


def test_a_row_that_no_shadow_model_was_trained_on_has_no_part_in_it() -> None:
    target, shadows = scene()
    outside = np.arange(24) % 4 == 0
    shadows.membership[:, outside] = False
    shadows.logits[:, outside] += 100 * (np.arange(shadows.logits.shape[-1]) == target.labels[outside][:, None, None])
    assert found(Margin(), shadows, target.labels)["own"] < 50
    assert np.isfinite(found(LiRA(), shadows, target.labels)["own"])


def test_an_attack_without_shadow_models_or_with_too_few_has_none() -> None:
    target, shadows = scene()
    assert found(experiment_from(["attack=threshold"]).attacks["threshold"], shadows, target.labels) == {}
    pair = replace(without_pair(shadows, 0), logits=shadows.logits[:2], membership=shadows.membership[:2])
    assert found(Margin(), pair, target.labels) == {}
    assert found(Margin(), None, target.labels) == {}


@pytest.mark.parametrize("flag", ["needs_retain", "needs_network"])
def test_what_shadow_models_cannot_show_has_none(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, shadows = scene()
    monkeypatch.setattr(Margin, flag, True)
    assert found(Margin(), shadows, target.labels) == {}
