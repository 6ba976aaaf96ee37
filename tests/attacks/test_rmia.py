"""RMIA, against a peer, its definition pair by pair, and closed forms."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import trim_mean
from sklearn.metrics import roc_auc_score

from advunlearn.attacks.rmia import relative_error, relative_score

PEER = np.load(Path(__file__).parents[1] / "golden" / "privacy_meter.npz")
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def peers_inputs(mode: str) -> Arrays:
    said, keep = np.log(PEER["probability"])[..., None], PEER["keep"]
    population, references, membership = ~keep[0], said[2:], keep[2:]
    others = references[:, population]
    if mode == "offline":  # the peer's population is IN some reference models: those that never saw it, 32 each
        unseen = np.argsort(membership[:, population], axis=0, kind="stable")[:32]
        others = np.take_along_axis(others, unseen[..., None], axis=0)
    return said[0], references, membership, said[0, population], others


def random_inputs(seed: int, queries: int = 1) -> Arrays:
    rng = np.random.default_rng(seed)

    def answers(*shape: int) -> np.ndarray:
        return -rng.exponential(size=(*shape, queries))

    membership = rng.random((8, 30)) < 0.5
    membership[:2], membership[2:4] = True, False  # ragged counts, but no side is empty
    return answers(30), answers(8, 30), membership, answers(50), answers(8, 50)


@pytest.mark.parametrize("gamma", [1, 2])
@pytest.mark.parametrize(
    ("mode", "a", "name"),
    [("online", 0.3, "online"), *(("offline", a, f"offline_a{a}") for a in (0.0, 0.3, 1.0))],
)
def test_the_score_is_privacy_meters(mode: str, a: float, name: str, gamma: int) -> None:
    found = relative_score(*peers_inputs(mode), mode=mode, gamma=gamma, a=a, trim=0.2)
    peers, population = -PEER[f"{name}_g{gamma}"], ~PEER["keep"][0]
    np.testing.assert_allclose(found[~population], peers[~population], rtol=0, atol=1e-7)  # the peer's are float32
    # To leave out an example's pair with itself, which never counts, the peer adds a pair that does, and so favours it.
    size = population.sum()
    np.testing.assert_allclose((found[population] * size + 1) / (size - 1), peers[population], rtol=0, atol=1e-7)
    assert (peers[population] > found[population]).all()


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(("gamma", "a", "trim"), [(1.0, 1.0, 0.0), (1.5, 0.3, 0.2), (4.0, 0.0, 0.4)])
def test_the_score_is_its_definition_pair_by_pair(mode: str, gamma: float, a: float, trim: float) -> None:
    target, references, membership, population, others = random_inputs(0, queries=3)
    found = relative_score(target, references, membership, population, others, mode=mode, gamma=gamma, a=a, trim=trim)
    expected = np.zeros(len(target))
    for query in range(3):

        def ratio(log_p: float, said: np.ndarray) -> float:
            mean = trim_mean(np.exp(said), trim)
            return float(np.exp(log_p) / (mean if mode == "online" else ((1 + a) * mean + 1 - a) / 2))

        beaten = [ratio(population[z, query], others[:, z, query]) for z in range(50)]
        for x in range(30):
            used = references[:, x, query] if mode == "online" else references[~membership[:, x], x, query]
            own = ratio(target[x, query], used)
            expected[x] += np.mean([own / other > gamma for other in beaten]) / 3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_an_example_that_ties_does_not_beat() -> None:
    target, references, membership, _, _ = random_inputs(1)
    found = relative_score(target, references, membership, target[:1], references[:, :1])
    assert found[0] == 0
    assert set(found) == {0, 1}


def test_probabilities_too_small_for_floating_point_are_compared_all_the_same() -> None:
    target = -1e4 - np.arange(5.0)[:, None]
    references, membership = np.full((4, 5, 1), -1e4), np.tile([[True], [False]], (2, 5))
    found = relative_score(target, references, membership, np.full((1, 1), -2e4 - 2.5), np.full((4, 1, 1), -2e4))
    assert found.tolist() == [1, 1, 1, 0, 0]


def test_known_memorisation_is_found_and_none_is_not() -> None:
    aucs: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        members = np.arange(300) < 150
        membership = np.argsort(rng.random((8, 300)), axis=0) < 4
        hard = rng.exponential(size=300)

        def losses(inside: np.ndarray, hard: np.ndarray, rng: np.random.Generator = rng) -> np.ndarray:
            return (hard * rng.uniform(0.5, 1.5, inside.shape) * np.where(inside, 0.3, 1.0))[..., None]

        unseen = rng.exponential(size=400)
        others = losses(np.zeros((9, 400), dtype=bool), unseen)
        references = losses(membership, hard)
        for memorised, found in aucs.items():
            target = losses(members & memorised, hard)
            scores = relative_score(-target, -references, membership, -others[0], -others[1:])
            found.append(roc_auc_score(members, scores))
    assert min(aucs[True]) > 0.8
    assert np.mean(aucs[False]) == pytest.approx(0.5, abs=4 * np.std(aucs[False]) / np.sqrt(20))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_example_without_a_side_has_no_score_and_warns_of_nothing(mode: str) -> None:
    target, references, membership, population, others = random_inputs(2)
    membership[:, 3], membership[:, 4] = False, True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = relative_score(target, references, membership, population, others, mode=mode)
        error = relative_error(target, references, membership, population, others, mode=mode)
    nowhere = [4] if mode == "offline" else [3, 4]
    assert np.flatnonzero(np.isnan(found)).tolist() == nowhere
    assert np.isnan(error[nowhere]).all()


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_the_error_is_how_far_scores_scatter_over_other_reference_models(mode: str) -> None:
    rng = np.random.default_rng(0)
    membership = np.argsort(rng.random((16, 40)), axis=0) < 8
    target, population = -rng.exponential(size=(40, 1)), -rng.exponential(size=(300, 1))
    scores, errors = [], []
    for _ in range(60):
        references, others = -rng.exponential(size=(16, 40, 1)), -rng.exponential(size=(16, 300, 1))
        references[membership] *= 0.5
        arguments = (target, references, membership, population, others)
        scores.append(relative_score(*arguments, mode=mode))
        errors.append(relative_error(*arguments, mode=mode))
    assert np.mean(errors) == pytest.approx(np.std(scores, axis=0).mean(), rel=0.15)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": np.zeros(3)}, "must fit together"),
        ({"references": np.zeros((4, 2, 1))}, "must fit together"),
        ({"population_references": np.zeros((4, 6, 1))}, "population references .* must fit together"),
        ({"membership": np.zeros((4, 2), dtype=bool)}, "membership must be"),
        ({"population": np.zeros((5, 2)), "population_references": np.zeros((4, 5, 2))}, "the same queries"),
        ({"references": np.zeros((0, 3, 1)), "membership": np.zeros((0, 3), dtype=bool)}, "references is needed"),
        ({"population": np.zeros((0, 1)), "population_references": np.zeros((4, 0, 1))}, "at least one non-member"),
        ({"target": np.full((3, 1), np.nan)}, "finite"),
        ({"population": np.full((5, 1), -np.inf)}, "finite"),
        ({"target": np.full((3, 1), 0.9)}, "at most 0"),  # probabilities rather than their logarithms
        ({"mode": "both"}, "mode must be one of"),
        ({"gamma": 0.5}, "gamma >= 1"),
        ({"a": 1.5}, "0 <= a <= 1"),
        ({"trim": 0.5}, "trim < 0.5"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {
        "target": np.zeros((3, 1)),
        "references": np.zeros((4, 3, 1)),
        "membership": np.eye(4, 3, dtype=bool),
        "population": np.zeros((5, 1)),
        "population_references": np.zeros((4, 5, 1)),
    }
    with pytest.raises(ValueError, match=words):
        relative_score(**{**arguments, **change})  # type: ignore[arg-type]
