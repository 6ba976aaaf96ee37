"""The audit of an unlearning algorithm: its arithmetic where the answer is known, and whole runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, mannwhitneyu, norm

import advunlearn
from advunlearn.attacks.attack import Observations
from advunlearn.attacks.lira import separation
from advunlearn.attacks.ulira import ULiRA, cross_fitted_ratios, most_vulnerable
from advunlearn.evaluation.comparison import measure_algorithm
from advunlearn.evaluation.metrics import auc_over_models
from advunlearn.options import ConfigError
from advunlearn.report.run.page import write_report
from advunlearn.report.run.terminal import comparison_table
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.storage.store import Store

Array = np.ndarray
QUICK = ["attack=ulira", "model.hidden=32", "optimizer.epochs=15", "unlearner=finetune", "unlearner.epochs=1"]
questions = pytest.mark.parametrize("partner", [False, True], ids=["efficacy", "privacy"])


def forgotten_by(originals: int, examples: int, rng: np.random.Generator) -> Array:
    """Draw which examples each original forgets: half of them, its complement the other half."""
    halves = [rng.permutation(examples) < examples // 2 for _ in range(originals // 2)]
    return np.stack([side for half in halves for side in (half, ~half)])


def scene(originals: int, examples: int, seed: int, shift: float = 0.0, *, partner: bool) -> tuple[Array, Array, Array]:
    """Draw margins of unlearned models, `shift` higher where they forgot the example, and of what they are told from.

    Examples differ in their difficulty, and models in how sure they are of everything.
    """
    rng = np.random.default_rng(seed)
    forgotten = forgotten_by(originals, examples, rng)
    difficulty = 2 * rng.normal(size=(1, examples, 1))
    unlearned, retrained = (difficulty + rng.normal(size=(originals, examples, 1)) for _ in range(2))
    unlearned = unlearned + shift * forgotten[..., None]
    return unlearned, unlearned if partner else retrained, forgotten


@questions
@pytest.mark.parametrize("shift", [0.5, -1.5])
def test_a_known_shift_gives_the_analytic_auc(partner: bool, shift: float) -> None:
    ratios = cross_fitted_ratios(*scene(400, 20, 0, shift, partner=partner), partner=partner, center="mean")
    found = measure_algorithm(ratios, seed=0)
    assert found["scores"] == 4000
    assert found["auc"] == pytest.approx(norm.cdf(abs(shift) / np.sqrt(2)), abs=4 * 0.5 / np.sqrt(3 * 4000 / 2))


@questions
def test_of_an_algorithm_that_retrains_the_interval_holds_one_half_in_95_of_100(partner: bool) -> None:
    runs, held, uncorrected, aucs = 100, 0, 0, []
    for seed in range(runs):
        ratios = cross_fitted_ratios(*scene(40, 12, seed, partner=partner), partner=partner)
        found = measure_algorithm(ratios, seed=seed)
        aucs.append(found["auc"])
        held += found["auc_low"] <= 0.5 <= found["auc_high"]
        known = ~np.isnan(ratios)
        first, original = np.indices(ratios.shape)[:2]
        _, low, high, _ = auc_over_models(ratios[known], first[known] == 0, original[known] // 2, seed=seed)
        uncorrected += low <= 0.5 <= high
    least, most = binom.interval(0.999, runs, 0.95)
    assert least <= held <= most
    assert uncorrected < held
    assert not partner or uncorrected <= binom.ppf(0.01, runs, 0.95)
    assert np.mean(aucs) == pytest.approx(0.5, abs=4 * np.std(aucs) / np.sqrt(runs))


@questions
def test_a_ratio_is_that_of_the_normals_of_the_other_fold(partner: bool) -> None:
    unlearned, others, forgotten = scene(16, 10, 0, 1.0, partner=partner)
    ratios = cross_fitted_ratios(unlearned, others, forgotten, partner=partner, center="mean", variance="per_example")
    judge, other_fold = 5, np.array([2, 3, 6, 7, 10, 11, 14, 15])  # 5 is of pair 2, and even pairs are a fold
    for example in np.flatnonzero(forgotten[judge]):
        inside = forgotten[other_fold, example]
        sides = [unlearned[other_fold[inside], example, 0], others[other_fold[~inside], example, 0]]
        for side, value in enumerate((unlearned[judge, example, 0], others[4 if partner else 5, example, 0])):
            member, non = (norm.logpdf(value, each.mean(), each.std()) for each in sides)
            assert ratios[side, judge, example] == pytest.approx(member - non)
    assert np.isnan(ratios[:, ~forgotten]).all()


@questions
def test_what_a_judged_pair_says_changes_no_normal_that_judges_its_fold(partner: bool) -> None:
    unlearned, others, forgotten = scene(16, 10, 0, 1.0, partner=partner)
    before = cross_fitted_ratios(unlearned, others, forgotten, partner=partner)
    for margins in (unlearned,) if partner else (unlearned, others):
        margins[4:6] += np.random.default_rng(1).normal(size=margins[4:6].shape)
    after = cross_fitted_ratios(unlearned, others, forgotten, partner=partner)
    same = np.isnan(before) | (before == after)
    own_fold = np.arange(16) // 2 % 2 == 0
    own_fold[4:6] = False
    assert same[:, own_fold].all()
    assert not same[:, 4:6][:, forgotten[4:6]].any()
    assert not same[:, 2].all()  # which the changed pair judges


@questions
def test_over_unlearning_shows_as_much_as_under_unlearning(partner: bool) -> None:
    unlearned, others, forgotten = scene(16, 10, 0, 1.0, partner=partner)
    mirrored = cross_fitted_ratios(-unlearned, -others, forgotten, partner=partner)
    expected = cross_fitted_ratios(unlearned, others, forgotten, partner=partner)
    np.testing.assert_allclose(mirrored, expected, rtol=1e-12)


def within_folds(ratios: Array) -> float:
    """Return the mean AUC of the scores of each fold, judged by one fit each; the fits of two folds are not alike."""
    fold, aucs = np.arange(ratios.shape[1]) // 2 % 2, []
    for each in (0, 1):
        first, second = (side[fold == each] for side in ratios)
        known = ~np.isnan(first)
        aucs.append(mannwhitneyu(first[known], second[known]).statistic / known.sum() ** 2)
    return float(np.mean(aucs))


@questions
def test_of_an_algorithm_that_retrains_the_most_vulnerable_tenth_has_one_half(partner: bool) -> None:
    """The choice by the judged ratios themselves would not: what one fold shows by chance, the other shows as well."""
    aucs, by_ratios, runs = [], [], 30
    held = np.zeros(2)
    even = np.arange(8) // 2 % 2 == 0
    for seed in range(runs):
        drawn = scene(8, 200, seed, partner=partner)
        ratios = cross_fitted_ratios(*drawn, partner=partner)
        tenth = np.where(most_vulnerable(*drawn), ratios, np.nan)
        measured = [measure_algorithm(each, seed=seed) for each in (ratios, tenth)]
        held += [found["auc_low"] <= 0.5 <= found["auc_high"] for found in measured]  # also with 8 originals
        aucs.append(within_folds(tenth))
        best = np.argsort(-np.nansum(ratios[0, even] - ratios[1, even], axis=0))[:20]
        odd = ratios[:, ~even][:, :, best]
        by_ratios.append(np.mean(odd[0] > odd[1]) * 2)  # half of them have a score
    assert (held >= binom.ppf(0.001, runs, 0.95)).all()
    assert np.mean(aucs) == pytest.approx(0.5, abs=3.3 * np.std(aucs) / np.sqrt(runs))
    assert np.mean(by_ratios) > 0.5 + 3.3 * np.std(by_ratios) / np.sqrt(runs)


@questions
def test_a_planted_tenth_that_leaks_is_found(partner: bool) -> None:
    planted = np.isin(np.arange(40), [3, 14, 15, 26])
    drawn = scene(32, 40, 0, partner=partner)
    drawn[0][...] += 3.0 * (drawn[2] & planted)[..., None]  # for `privacy` the compared models are the same array
    chosen = most_vulnerable(*drawn)
    assert chosen.sum(1).tolist() == [4] * 32
    assert (chosen == planted).mean() > 0.98
    ratios = cross_fitted_ratios(*drawn, partner=partner)
    whole, tenth = (measure_algorithm(each, seed=0) for each in (ratios, np.where(chosen, ratios, np.nan)))
    assert tenth["auc_low"] > 0.8  # of two normals that lie three deviations apart: 0.98
    assert whole["auc"] < 0.65
    assert tenth["tpr_at_fpr_0.05"] > 2 * whole["tpr_at_fpr_0.05"]


@questions
def test_what_a_judged_fold_says_does_not_choose_its_tenth(partner: bool) -> None:
    unlearned, others, forgotten = scene(16, 40, 0, 1.0, partner=partner)
    before = most_vulnerable(unlearned, others, forgotten)
    even = np.arange(16) // 2 % 2 == 0
    for margins in (unlearned,) if partner else (unlearned, others):
        margins[even] += np.random.default_rng(1).normal(size=margins[even].shape)
    after = most_vulnerable(unlearned, others, forgotten)
    np.testing.assert_array_equal(after[even], before[even])
    assert (after[~even] != before[~even]).any()


@pytest.mark.parametrize("center", ["mean", "median"])
def test_the_separation_is_the_mean_ratio_of_both_sides_by_their_own_normals(center: str) -> None:
    rng = np.random.default_rng(0)
    margins, inside = rng.normal(size=(12, 5, 2)), rng.permuted(np.tile(np.arange(12)[:, None] < 6, 5), axis=0)
    margins[:, 0] += 4 * inside[:, 0, None]
    found = separation(margins, inside, center=center, variance="per_example")
    for example in range(5):
        sides = [margins[side, example] for side in (inside[:, example], ~inside[:, example])]
        middle = {"mean": np.mean, "median": np.median}[center]
        laws = [norm(middle(side, axis=0), side.std(0)) for side in sides]
        first, second = ((laws[0].logpdf(side) - laws[1].logpdf(side)).mean() for side in sides)
        assert found[example] == pytest.approx(first - second)
    assert found.argmax() == 0
    assert np.isnan(separation(margins, np.ones((12, 5), bool))).all()


@pytest.mark.parametrize("originals", [2, 5, 7])
def test_too_few_or_odd_originals_are_refused(originals: int) -> None:
    margins, forgotten = np.zeros((originals, 3, 1)), np.zeros((originals, 3), bool)
    with pytest.raises(ValueError, match=rf"an even number of originals is needed, at least 4, got {originals}"):
        cross_fitted_ratios(margins, margins, forgotten, partner=True)
    with pytest.raises(ValueError, match="an even number of originals is needed"):
        most_vulnerable(margins, margins, forgotten)


def test_originals_that_are_not_complementary_are_refused() -> None:
    with pytest.raises(ValueError, match="must not forget the same example"):
        cross_fitted_ratios(np.zeros((4, 3, 1)), np.zeros((4, 3, 1)), np.ones((4, 3), bool), partner=True)


@pytest.mark.parametrize(
    ("originals", "problem"),
    [(5, r"attack.originals must be an even whole number, got 5"), (2, r"attack.originals must be at least 4, got 2")],
)
def test_a_bad_number_of_originals_is_a_mistake_in_the_config(originals: int, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        advunlearn.run(["attack=ulira", f"attack.originals={originals}"])
    assert any(problem in line for line in caught.value.problems)


def test_an_example_that_no_original_forgot_has_no_score() -> None:
    rng = np.random.default_rng(0)
    membership = forgotten_by(8, 6, rng) & (np.arange(6) < 4)
    logits = rng.normal(size=(9, 6, 1, 3)).astype(np.float32)
    target = Observations(logits[0], np.arange(6) % 3, np.arange(6) < 3)
    shadows = ShadowOutputs(logits[1:], membership, logits[1:, :0])
    for found in ULiRA(variance="fixed").score(target, shadows, rng).values():
        assert np.isnan(found).tolist() == [False] * 4 + [True] * 2
    logits[1:, 4:] += 100  # nor does it widen the normals of those that have one
    first, second = (
        ULiRA(variance="fixed").score(target, ShadowOutputs(each, membership, each[:, :0]), rng)[""]
        for each in (shadows.logits, logits[1:])
    )
    np.testing.assert_array_equal(first, second)


def test_a_persons_model_has_no_algorithm_to_audit() -> None:
    part = torch.randn(9, 4), torch.arange(9) % 3
    target = Observations(np.zeros((3, 1, 2), np.float32), np.zeros(3, int), np.arange(3) < 1)
    with pytest.raises(ValueError, match="ulira trains models to compare with"):
        advunlearn.audit(torch.nn.Linear(4, 3), forget=part, test=part, attacks="ulira")
    with pytest.raises(ValueError, match="ulira needs shadow originals"):
        ULiRA().score(target, None, np.random.default_rng())


def algorithm(overrides: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = advunlearn.run([*QUICK, *overrides]).metrics["algorithm"]["ulira"]
    return found


def test_what_a_run_says_of_the_algorithm(workplace: Path) -> None:
    result = advunlearn.run([*QUICK, "optimizer.epochs=5", "attack.originals=8"])
    found = result.metrics["algorithm"]["ulira"]
    assert set(found) == {"efficacy", "privacy", "efficacy_tenth", "privacy_tenth"}
    table, page = comparison_table(result.metrics), (result.folder / "report.html").read_text()
    written = (result.folder / "metrics.csv").read_text()
    for question, models in found.items():
        assert set(models) == {"original", "retrained", "unlearned"}
        for model, each in models.items():
            assert each["auc_low"] <= each["auc"] <= each["auc_high"]
            assert (each["originals"], each["scores"]) == (8, 8 * 50 if "tenth" not in question else 40)
            assert each["tpr_at_fpr_0.01_low"] <= each["tpr_at_fpr_0.01"] <= each["tpr_at_fpr_0.01_high"]
            assert f"{each['auc']:.3f} [" in table
            assert f"{model},ulira,{question}_auc,{each['auc']}\n" in written
    for text in (table, page):
        assert "tested on the algorithm that retrains" in text
        assert "ulira, algorithm" in text
        assert "efficacy, worst tenth" in text
        assert "ulira, TPR at 5% FPR" in text
    for model in ("original", "unlearned"):
        gaps = result.metrics["gap"][model]["algorithm"]["ulira"]
        assert gaps == {question: each[model]["auc"] - each["retrained"]["auc"] for question, each in found.items()}
    with np.load(result.folder / "scores.npz") as scores:
        for question, models in found.items():
            for model, each in models.items():
                ratios = scores[f"algorithm/ulira/{question}/{model}"]
                assert measure_algorithm(ratios, seed=0) == each
        assert np.isfinite(scores["unlearned/ulira"][scores["member"]]).all()
        assert np.isfinite(scores["unlearned/ulira"]).sum() == 100
    assert result.metrics["models"]["unlearned"]["attacks"]["ulira"]["shadows"] == 8
    assert result.metrics["seconds"]["shadows"] > 0
    metrics = json.loads((result.folder / "metrics.json").read_text())
    del metrics["algorithm"]  # as runs of older versions have it
    (result.folder / "metrics.json").write_text(json.dumps(metrics))
    write_report(result.folder)


def test_the_originals_serve_another_attack_and_another_unlearner(workplace: Path) -> None:
    options = [*QUICK, "optimizer.epochs=2", "attack.originals=8", "attack.stacked=false"]

    def stored() -> dict[str, int]:
        found = Counter(entry.kind for entry in Store().entries())
        return {kind: found[kind] for kind in ("shadow_original", "shadow_unlearned")}

    advunlearn.run(options)
    assert stored() == {"shadow_original": 8, "shadow_unlearned": 8}
    advunlearn.run([*options, "attack.ulira.center=mean"])
    assert stored() == {"shadow_original": 8, "shadow_unlearned": 8}
    advunlearn.run([*options, "unlearner.epochs=2", "attack.shard=1/2"])
    assert stored() == {"shadow_original": 8, "shadow_unlearned": 12}
    assert not any(entry.kind == "shadow" for entry in Store().entries())


def test_without_unlearning_the_unlearned_models_are_the_originals(workplace: Path) -> None:
    for models in algorithm(
        ["unlearner=none", "~unlearner.epochs", "optimizer.epochs=5", "attack.originals=8"]
    ).values():
        assert models["unlearned"] == models["original"]


def test_retraining_cannot_be_told_from_retraining_and_the_original_can(workplace: Path) -> None:
    found = algorithm(["unlearner=retrain", "~unlearner.epochs", "attack.originals=32", "optimizer.lr=0.01"])
    for models in found.values():
        for name in ("retrained", "unlearned"):
            assert models[name]["auc_low"] <= 0.5 <= models[name]["auc_high"], models[name]
        assert models["original"]["auc_low"] > 0.55
