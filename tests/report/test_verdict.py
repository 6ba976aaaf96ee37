"""The sentences over several runs."""

from __future__ import annotations

from pathlib import Path

from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.runs import summarise
from advunlearn.report.summary.verdict import comparisons, sentences
from tests.report.runs import config, metrics, write

SEEDS = range(4)
NOISE = (0.01, -0.01, 0.02, -0.02)


def sweep(root: Path, gaps: dict[float, list[float]], **others: float) -> None:
    """Write runs with these gaps of lira, for each alpha one a seed."""
    for alpha, values in gaps.items():
        for seed, gap in enumerate(values):
            done = metrics({"lira": gap, **others}, before={"lira": 0.3, **dict.fromkeys(others, 0.1)}, time=0.5)
            write(root / f"{alpha}-{seed}", config(seed, unlearner__alpha=alpha), done)


def test_the_nearest_is_named_with_its_numbers(tmp_path: Path) -> None:
    sweep(tmp_path, {0.0: [0.3] * 4, 3.0: [0.05 + each for each in NOISE]})
    (sentence,) = sentences(summarise(find_runs([tmp_path])))
    assert sentence.startswith("sg, alpha=3.0 came nearest to the retrained model: under lira, the strongest attack")
    assert "lies +0.050 ± 0.029 off" in sentence  # t = 3.182, s = 0.01826
    assert "(the original's: +0.300 ± 0.000)" in sentence
    assert "test accuracy of 0.900 ± 0.000 (retrained: 0.950 ± 0.000) and in 0.50 ± 0.00 times the time" in sentence
    assert "better unlearner" not in sentence
    assert sentence.endswith("Every other group is farther away, beyond the 95 % interval over seeds.")


def test_far_below_one_half_is_as_far(tmp_path: Path) -> None:
    sweep(tmp_path, {0.0: [0.1] * 4, 3.0: [-0.3] * 4})
    (comparison,) = comparisons(summarise(find_runs([tmp_path])))
    assert [group.labels for group in comparison.ranked] == [("0.0",), ("3.0",)]


def test_gaps_on_both_sides_do_not_cancel(tmp_path: Path) -> None:
    sweep(tmp_path, {0.0: [0.2, -0.2, 0.2, -0.2], 3.0: [0.1] * 4})
    (comparison,) = comparisons(summarise(find_runs([tmp_path])))
    assert comparison.ranked[0].labels == ("3.0",)


def test_groups_that_the_seeds_do_not_distinguish_are_named(tmp_path: Path) -> None:
    sweep(tmp_path, {0.0: [0.05, 0.02, 0.07, 0.01], 1.0: [0.02, 0.06, 0.01, 0.05], 3.0: [0.3] * 4})
    (comparison,) = comparisons(summarise(find_runs([tmp_path])))
    assert comparison.ranked[0].labels == ("1.0",)
    assert [group.labels for group in comparison.tied] == [("0.0",)]
    assert "These seeds do not distinguish it from: sg, alpha=0.0." in sentences(summarise(find_runs([tmp_path])))[0]


def test_one_seed_tells_nothing_apart(tmp_path: Path) -> None:
    sweep(tmp_path, {0.0: [0.05], 3.0: [0.3]})
    (sentence,) = sentences(summarise(find_runs([tmp_path])))
    assert "one seed: the spread over seeds is not known" in sentence
    assert sentence.endswith("One seed cannot show whether the others are farther away.")
    assert "±" not in sentence


def test_another_attack_that_finds_more_is_named(tmp_path: Path) -> None:
    sweep(tmp_path, {3.0: [0.01] * 4}, rmia=-0.2)
    (sentence,) = sentences(summarise(find_runs([tmp_path])))
    assert "Of all attacks, rmia finds the largest gap there: -0.200 ± 0.000." in sentence


def test_retraining_and_its_price(tmp_path: Path) -> None:
    retrain = {"_target_": "advunlearn.unlearners.retrain.Retrain"}
    write(tmp_path / "0", config(unlearner=retrain), metrics({"lira": 0.0}, time=1.0))
    write(tmp_path / "1", config(), metrics({"lira": 0.1}, time=2.0))
    (sentence,) = sentences(summarise(find_runs([tmp_path])))
    assert sentence.startswith("sg against the retrained model")
    assert "2.00 times the time of retraining, so that retraining would have been the better unlearner" in sentence


def test_settings_are_judged_apart_and_missing_runs_are_counted(tmp_path: Path) -> None:
    for size in (100, 200):
        write(tmp_path / str(size), config(dataset__train_size=size), metrics({"lira": 0.1}))
    write(tmp_path / "failed", config(1, dataset__train_size=200), None, "failed", "ValueError: no")
    write(tmp_path / "shard", config(2, attack__shard="1/2", dataset__train_size=200))
    first, second, third = sentences(summarise(find_runs([tmp_path])))
    assert first.startswith("train_size=100: sg")
    assert second.startswith("train_size=200: sg")
    assert third == "1 of 3 runs has no result."
    assert sentences(summarise([tmp_path / "failed"]))[-1] == "1 of 1 runs has no result."
