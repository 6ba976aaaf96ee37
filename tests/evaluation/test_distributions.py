"""Unlearned against retrained models as distributions: closed forms, the authors' code, what few models can tell."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from advunlearn.evaluation.distributions import EPSILON_CAP, epsilons, forgetting_quality, klom

GOLDEN = Path(__file__).parents[1] / "golden" / "distributions.npz"
BOUND = math.log(1e5)  # of KLoM: all unlearned margins are where no retrained one is


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


def normals(mean: float, models: int, examples: int = 1, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (models, examples))


def test_klom_is_that_of_its_authors_code(golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(klom(golden["unlearned"], golden["retrained"]), golden["klom"], rtol=1e-12)


def test_unlearned_margins_that_are_all_at_the_end_are_not_taken_for_a_perfect_unlearner(
    golden: dict[str, np.ndarray],
) -> None:
    ours, theirs = golden["unlearned_at_the_clip"][:, None], golden["retrained_at_the_clip"][:, None]
    assert golden["klom_at_the_clip_AS_SHIPPED"] == 0
    assert klom(ours, theirs)[0] > 1
    assert klom(np.full((9, 1), 7.0), np.linspace(0, 1, 9)[:, None])[0] == pytest.approx(BOUND)


def test_epsilons_and_forgetting_quality_are_those_of_the_competitions_code(golden: dict[str, np.ndarray]) -> None:
    found = epsilons(golden["unlearned"], golden["retrained"])
    np.testing.assert_allclose(found, golden["epsilons"], rtol=2e-6)  # which counts rates in float32
    assert forgetting_quality(found, len(golden["unlearned"])) == pytest.approx(golden["forgetting_quality"].item())
    assert 0 < golden["forgetting_quality"] < 1


def test_klom_of_two_normals_tends_to_their_divergence() -> None:
    found = klom(normals(0.5, 200_000), normals(0.0, 200_000, seed=1))
    assert found[0] == pytest.approx(0.5**2 / 2, rel=0.05)  # the KL divergence of normals with one variance
    apart = klom(normals(50, 100), normals(0, 100))
    assert apart[0] == pytest.approx(BOUND, rel=0.15)


def test_klom_by_hand() -> None:
    """Bins of width 1: unlearned 1/2, 1/2 in the first two; retrained 1/4, 3/4; the 20 is in none."""
    unlearned = np.array([0.5, 0.5, 1.5, 1.5])
    retrained = np.array([0.0, 1.2, 1.4, 1.6, 20.0])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert klom(unlearned[:, None], retrained[:, None])[0] == pytest.approx(expected)


def test_the_same_models_are_at_no_distance() -> None:
    same = normals(0, 40, 5)
    np.testing.assert_allclose(klom(same, same), 0, atol=1e-12)
    constant = np.full((40, 2), 3.0)
    assert klom(constant, constant).tolist() == [0, 0]
    assert epsilons(constant, constant).tolist() == [0, 0]


def test_klom_of_one_distribution_is_as_large_as_easydub_publishes_it_with_200_models() -> None:
    """EasyDUB prints 0.3191 and 0.2639 for retain and validation examples, where both kinds of models are alike.

    It names 100 models, with which samples of one distribution lie twice as far apart. Its data have 200.
    """
    publishes = 0.2639, 0.3191
    floors = {
        models: np.percentile(klom(normals(0, models, 800), normals(0, models, 800, seed=1)), 95)
        for models in (100, 200)
    }
    assert 0.9 * publishes[0] < floors[200] < publishes[1]
    assert floors[100] > 2 * publishes[0]


def test_models_in_which_an_example_has_another_role_do_not_count() -> None:
    ours, theirs = normals(0, 40, 3), normals(1, 40, 3, seed=1)
    holes = np.concatenate([ours, np.full((7, 3), np.nan)])[np.random.default_rng(0).permutation(47)]
    np.testing.assert_allclose(klom(holes, theirs), klom(ours, theirs))
    np.testing.assert_allclose(epsilons(holes, theirs), epsilons(ours, theirs))
    none = np.full((40, 3), np.nan)
    for measure in (klom, epsilons):
        assert np.isnan(measure(none, theirs)).all()
        assert np.isnan(measure(ours, none)).all()


def test_neither_the_order_of_models_nor_a_common_shift_matters() -> None:
    ours, theirs = normals(0, 40, 4), normals(0.7, 40, 4, seed=1)
    np.testing.assert_allclose(epsilons(ours[::-1] + 4, theirs + 4), epsilons(ours, theirs))
    np.testing.assert_allclose(klom(ours[::-1] + 4, theirs + 4), klom(ours, theirs))
    np.testing.assert_allclose(epsilons(theirs, ours), epsilons(ours, theirs))


def test_epsilon_by_hand() -> None:
    """The best rule is a threshold in the middle: one error of ten on each side."""
    low, high = np.arange(10.0), np.arange(10.0) + 100
    low[-1], high[0] = 101.5, 7.5
    expected = math.log((1 - 1e-5 - 0.1) / 0.1)
    assert epsilons(low[:, None], high[:, None])[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (normals(0, 30), normals(30, 30)),  # apart
        (normals(30, 30), normals(0, 30)),
        (np.full((30, 1), 1.0), normals(0, 30)),  # a peak
        (np.full((30, 1), 1.0), np.full((30, 1), 1.001)),
        (np.linspace(0, 1, 30)[:, None], np.linspace(1.0001, 2, 30)[:, None]),  # apart, by less than a threshold
        (np.full((30, 1), 1e9), normals(0, 30)),
    ],
)
def test_an_epsilon_of_what_can_be_separated_is_the_largest(ours: np.ndarray, theirs: np.ndarray) -> None:
    found = epsilons(ours, theirs)
    assert found.tolist() == [EPSILON_CAP]
    assert forgetting_quality(found, 30) == 0


def test_forgetting_quality_by_hand() -> None:
    found = np.array([0.0, 0.49, 0.5, 1.7, 50.0, np.nan])
    assert forgetting_quality(found, 512) == pytest.approx((1 + 1 + 1 / 2 + 1 / 8 + 0) / 5)
    # 8 models resolve an epsilon below ceil(log(7)) = 2
    assert forgetting_quality(np.array([1.99, 2.0]), 8) == pytest.approx((1 / 8 + 0) / 2)


def test_a_perfect_unlearner_is_far_from_one_and_an_unlearner_that_does_nothing_is_lower() -> None:
    retrained = normals(0, 32, 30)
    perfect = forgetting_quality(epsilons(normals(0, 32, 30, seed=1), retrained), 32)
    nothing = forgetting_quality(epsilons(normals(2, 32, 30, seed=1), retrained), 32)
    assert nothing < perfect / 3 < 0.2


@pytest.mark.parametrize(
    ("ours", "theirs"), [((4,), (4,)), ((4, 2), (4, 3)), ((0, 2), (4, 2)), ((4, 2), (0, 2)), ((4, 2, 1), (4, 2, 1))]
)
def test_arrays_that_do_not_fit_are_refused(ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    for measure in (klom, epsilons):
        with pytest.raises(ValueError, match=r"\(models, examples\)"):
            measure(np.zeros(ours), np.zeros(theirs))


def test_forgetting_quality_needs_models_and_examples() -> None:
    for found, models in ((np.array([np.nan]), 64), (np.array([1.0]), 2)):
        with pytest.raises(ValueError, match="needs 3 models and an example"):
            forgetting_quality(found, models)
