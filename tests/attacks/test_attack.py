"""What every attack on logits promises: nothing but what a model says counts, and extremes have documented answers."""

from __future__ import annotations

import numpy as np
import pytest

from advunlearn.attacks.attack import STDERR, Attack, Observations, Outputs
from advunlearn.attacks.lira import LiRA
from advunlearn.attacks.population import Population
from advunlearn.attacks.rmia import RMIA
from advunlearn.attacks.ulira import ULiRA
from advunlearn.shadows.outputs import ShadowOutputs

ATTACKS = [LiRA(), LiRA(mode="offline"), RMIA(), RMIA(mode="offline"), Population(), ULiRA()]
NAMES = ["lira", "lira offline", "rmia", "rmia offline", "population", "ulira"]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
Scene = tuple[Observations, ShadowOutputs]


def scene(models: int = 8, examples: int = 24, others: int = 60, scale: float = 1.0) -> Scene:
    rng = np.random.default_rng(0)
    labels, more = rng.integers(0, 5, examples), rng.integers(0, 5, others)
    shadows = ShadowOutputs(
        scale * rng.normal(size=(models, examples, 2, 5)),
        np.argsort(rng.random((models, examples)), axis=0) < models // 2,
        scale * rng.normal(size=(models, others, 2, 5)),
    )
    target = Observations(
        scale * rng.normal(size=(examples, 2, 5)),
        labels,
        np.arange(examples) < examples // 2,
        population=Outputs(scale * rng.normal(size=(others, 2, 5)), more),
    )
    return target, shadows


def changed(found: Scene, logits, labels=lambda each: each) -> Scene:  # type: ignore[no-untyped-def]
    """Return the scene with all its logits and labels changed."""
    target, shadows = found
    assert target.population is not None
    population = Outputs(logits(target.population.logits), labels(target.population.labels))
    return (
        Observations(logits(target.logits), labels(target.labels), target.members, population=population),
        ShadowOutputs(logits(shadows.logits), shadows.membership, logits(shadows.population)),
    )


def scores(attack: Attack, found: Scene) -> dict[str, np.ndarray]:
    return attack.score(*found, np.random.default_rng(0))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9)


@every_attack
def test_scores_are_finite_and_differ(attack: Attack) -> None:
    for array in scores(attack, scene()).values():
        assert np.isfinite(array).all()
        assert len(np.unique(array)) > 10


@every_attack
def test_a_constant_added_to_all_logits_changes_nothing(attack: Attack) -> None:
    rng = np.random.default_rng(1)
    shifted = changed(scene(), lambda logits: logits + 100 * rng.normal(size=(*logits.shape[:-1], 1)))
    assert_same(scores(attack, shifted), scores(attack, scene()))


@every_attack
def test_the_order_of_the_classes_changes_nothing(attack: Attack) -> None:
    order = np.array([3, 0, 4, 1, 2])
    permuted = changed(scene(), lambda logits: logits[..., order], lambda labels: np.argsort(order)[labels])
    assert_same(scores(attack, permuted), scores(attack, scene()))


@every_attack
def test_the_order_of_the_shadow_models_changes_nothing(attack: Attack) -> None:
    target, shadows = scene()
    order = np.random.default_rng(1).permutation(8)
    permuted = ShadowOutputs(shadows.logits[order], shadows.membership[order], shadows.population[order])
    assert_same(scores(attack, (target, permuted)), scores(attack, (target, shadows)))


@every_attack
def test_a_masked_class_counts_for_nothing(attack: Attack) -> None:
    masked = changed(scene(), lambda logits: np.concatenate([logits, np.full((*logits.shape[:-1], 1), -np.inf)], -1))
    assert_same(scores(attack, masked), scores(attack, scene()))


@every_attack
def test_logits_of_ten_thousands_are_told_apart(attack: Attack) -> None:
    for array in scores(attack, scene(scale=1e4)).values():
        assert np.isfinite(array).all()
        assert len(np.unique(array)) > 5


@pytest.mark.parametrize(
    ("attack", "expected"),
    list(zip(ATTACKS, [0.0, np.log(0.5), 0.0, 0.0, 1.0, 0.0], strict=True)),
    ids=NAMES,
)
def test_models_that_say_the_same_of_everything_tell_nothing(attack: Attack, expected: float) -> None:
    found = scores(attack, changed(scene(), lambda logits: np.zeros_like(logits)))
    np.testing.assert_allclose(found[""], expected, rtol=1e-12)
    assert found.get(STDERR, np.zeros(24)).tolist() == [0] * 24


@pytest.mark.parametrize("attack", ATTACKS[:4], ids=NAMES[:4])
def test_one_shadow_model_can_say_something_offline_only(attack: LiRA | RMIA) -> None:
    target, shadows = scene(models=1)
    half = np.arange(24)[None] < 12
    found = scores(attack, (target, ShadowOutputs(shadows.logits, half, shadows.population)))
    assert np.isnan(found[""]).tolist() == [True] * 12 + [attack.mode == "online"] * 12
    assert np.isnan(found[STDERR]).all()


@pytest.mark.parametrize("attack", ATTACKS[:4], ids=NAMES[:4])
def test_two_shadow_models_give_scores_without_errors(attack: LiRA | RMIA) -> None:
    found = scores(attack, scene(models=2))
    assert np.isfinite(found[""]).all()
    assert np.isnan(found[STDERR]).all()


@every_attack
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_is_an_error(attack: Attack, value: float) -> None:
    target, shadows = scene()
    target.logits[0, 0, 0] = value
    with pytest.raises(ValueError, match="diverged"):
        scores(attack, (target, shadows))


def test_rmia_needs_shadow_models_and_a_population() -> None:
    target, shadows = scene()
    alone = Observations(target.logits, target.labels, target.members)
    for asked, models in ((target, None), (alone, shadows)):
        with pytest.raises(ValueError, match="rmia needs shadow models and a population"):
            RMIA().score(asked, models, np.random.default_rng(0))
