"""Components of variance: known answers, and what a report says of a grid of seeds."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from advunlearn.report.summary import variance
from advunlearn.report.summary.columns import Estimate
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import comma_separated, latex, markdown, text
from advunlearn.report.summary.page import render_overview
from advunlearn.report.summary.runs import Summary, summarise
from advunlearn.report.summary.variance import Components, components
from advunlearn.report.summary.verdict import is_farther, sentences
from tests.report.runs import config, metrics, write


def of(values: Sequence[Sequence[Sequence[float]]]) -> Components | None:
    """Return the components of values by training, unlearning and audit."""
    cells = [
        (value, i, j, k) for i, one in enumerate(values) for j, two in enumerate(one) for k, value in enumerate(two)
    ]
    return components(*map(list, zip(*cells, strict=True)))


def known(values: Sequence[Sequence[Sequence[float]]]) -> Components:
    found = of(values)
    assert found is not None
    return found


def test_two_by_two_by_hand() -> None:
    # Means 2 and 7; within: (2 + 2) / 2 = 2; between: 2 (2.5^2 + 2.5^2) / 1 = 25; training: (25 - 2) / 2.
    found = known([[[1.0], [3.0]], [[6.0], [8.0]]])
    assert (found.trainings, found.unlearnings, found.residual, found.cut) == (2, 2.0, None, ())
    assert found.unlearning == pytest.approx(2)
    assert found.training == pytest.approx(11.5)
    assert found.error == pytest.approx(math.sqrt(11.5 / 2 + 2 / 4)) == pytest.approx(2.5)


def test_unequal_numbers_by_hand() -> None:
    # Cells 0, 2, 4 and 6: means 2 and 6, whole 3; within: 8 / 2 = 4; between: 3 * 1 + 1 * 9 = 12; J: 4 - 10 / 4 = 1.5.
    found = known([[[0.0], [2.0], [4.0]], [[6.0]]])
    assert (found.unlearning, found.training) == (pytest.approx(4), pytest.approx((12 - 4) / 1.5))


def test_components_of_a_synthetic_grid_are_recovered() -> None:
    rng = np.random.default_rng(0)
    training, unlearning, residual = (
        rng.normal(0, 2, (200, 1, 1)),
        rng.normal(0, 1, (200, 4, 1)),
        rng.normal(0, 0.5, (200, 4, 2)),
    )
    found = known(
        (training + unlearning + residual + rng.normal(0, 9, (1, 1, 2))).tolist()
    )  # 9: what an audit does to all
    assert found.training == pytest.approx(4, rel=0.2)
    assert found.unlearning == pytest.approx(1, rel=0.2)
    assert found.residual == pytest.approx(0.25, rel=0.2)
    # The error is that of the mean with both; unlearnings include their share of the residual.
    assert found.error**2 == pytest.approx((found.training + (found.unlearning + found.residual / 2) / 4) / 200)


def test_unbalanced_grids_are_recovered_as_well() -> None:
    rng = np.random.default_rng(1)
    values = [[[float(value)] for value in rng.normal(rng.normal(0, 1), 2, rng.integers(1, 6))] for _ in range(500)]
    found = known(values)
    assert (found.training, found.unlearning) == (pytest.approx(1, rel=0.3), pytest.approx(4, rel=0.15))


def test_the_standard_error_covers_both_variances() -> None:
    rng = np.random.default_rng(2)
    grids = rng.normal(0, 1, (600, 4, 1)) + rng.normal(0, 2, (600, 4, 3))
    inside = 0
    for grid in grids:
        found = Estimate(tuple(grid.ravel()), tuple(np.repeat(list("abcd"), 3)))
        assert found.half is not None
        inside += abs(found.mean) < found.half
    assert inside / len(grids) == pytest.approx(0.95, abs=0.03)
    naive = [Estimate(tuple(grid.ravel())) for grid in grids]
    assert sum(abs(each.mean) < (each.half or 0) for each in naive) / len(grids) < 0.91


def test_a_deterministic_unlearner_has_no_variance_of_unlearning() -> None:
    found = known([[[0.1]] * 3, [[0.7]] * 3])
    assert found.unlearning == 0  # exactly
    assert found.training == pytest.approx(0.18)
    assert found.error == pytest.approx(math.sqrt(0.18 / 2))
    assert found.advice(cost=100) == "trainings"


def test_a_negative_estimate_is_cut_and_told() -> None:
    found = known([[[0.0], [4.0]], [[1.0], [3.0]]])
    assert (found.training, found.cut) == (0, ("training",))
    assert found.advice(cost=1) == "unlearnings"


@pytest.mark.parametrize("values", [[[[1.0], [2.0]]], [[[1.0]], [[2.0]]], [[[1.0]]]])
def test_one_level_alone_has_no_components(values: list[list[list[float]]]) -> None:
    assert of(values) is None


def test_the_best_number_of_unlearnings_has_the_smallest_error_for_its_time() -> None:
    found, cost = Components(5, 2, training=1.0, unlearning=4.0, residual=None, error=0, cut=()), 16.0
    best = found.best_unlearnings(cost)

    def error(unlearnings: int) -> float:
        trainings = 1000 / (cost + unlearnings)
        return 1.0 / trainings + 4.0 / (trainings * unlearnings)

    assert best == min(range(1, 100), key=error) == 8
    assert found.advice(cost) == "unlearnings, 8 each"
    assert found.advice(cost=0.1) == "trainings"
    assert Components(5, 2, 0.0, 0.0, None, 0, ()).advice(1) == "neither"


def grid(folder: Path, gaps: Sequence[Sequence[float]], alpha: float = 3.0, audits: int = 1) -> Summary:
    """Write one run for each gap, by training and unlearning, and return the summary of all runs in the folder."""
    for training, row in enumerate(gaps):
        for unlearning, value in enumerate(row):
            for audit in range(audits):
                seeds = {"training": training, "unlearning": unlearning, "audit": audit}
                one = metrics({"lira": value + 0.001 * audit * (-1) ** (training + unlearning)})
                write(
                    folder / f"{alpha}-{training}-{unlearning}-{audit}",
                    config(0, seeds=seeds, unlearner__alpha=alpha),
                    one,
                )
    return summarise(find_runs([folder]))


GAPS = [[0.01, 0.03], [0.06, 0.08]]


def test_a_grid_of_seeds_is_one_group_and_its_interval_counts_trainings(tmp_path: Path) -> None:
    summary = grid(tmp_path, GAPS)
    (group,) = summary.groups
    gap = group.gap("lira")
    assert gap is not None
    assert (summary.keys, len(group.runs), gap.means) == ((), 4, pytest.approx((0.02, 0.07)))
    assert gap.half == pytest.approx(12.7062047 * 0.025)
    assert [len(row.runs) for row in summary.rows] == [2, 2, 4]  # the original and the retrained model are shared
    assert "95 % interval of 2 trainings" in sentences(summary)[0]


def test_every_format_has_the_components(tmp_path: Path) -> None:
    summary = grid(tmp_path, GAPS)
    line = ["sg", "lira", "2 x 2", "0.0339", "0.0141", "0.0250", "trainings"]
    assert variance.table(summary)[1] == line
    for shown in (text(summary), latex(summary)):
        assert any(row.lstrip("% ").split() == " ".join(line).split() for row in shown.splitlines())
    assert f"| {' | '.join(line)} |" in markdown(summary)
    page = re.sub(r'\n| data-label="[^"]*"', "", render_overview(summary, {}))
    assert "<td>2 x 2</td><td>0.0339</td><td>0.0141</td><td>0.0250</td>" in page
    rows = list(csv.DictReader(io.StringIO(comma_separated(summary))))
    found = {row["metric"]: (float(row["mean"]), row["n"]) for row in rows if row["metric"].startswith("gap_")}
    assert found["gap_sd_training"] == (pytest.approx(math.sqrt(0.00115)), "2")
    assert found["gap_sd_unlearning"] == (pytest.approx(math.sqrt(0.0002)), "4")
    assert found["gap_standard_error"] == (pytest.approx(0.025), "2")


def test_repeated_audits_have_a_residual(tmp_path: Path) -> None:
    summary = grid(tmp_path, GAPS, audits=2)
    assert variance.table(summary)[0][5] == "residual"
    assert "residual: between audits" in text(summary)


def test_unlearning_alone_is_told_to_say_nothing_of_training(tmp_path: Path) -> None:
    summary = grid(tmp_path, [[0.05, 0.05, 0.05]])
    assert variance.table(summary) == []
    for shown in (text(summary), markdown(summary), latex(summary), render_overview(summary, {})):
        assert "Only unlearning was repeated" in shown
    assert variance.remarks(grid(tmp_path / "more", [[0.1], [0.2]])) == []


def test_methods_are_compared_by_training(tmp_path: Path) -> None:
    """Many unlearnings of two trained models do not make a difference certain that the two disagree on."""
    grid(tmp_path, [[0.10, 0.11, 0.10], [0.30, 0.31, 0.30]], alpha=0.0)
    near, far = grid(tmp_path, [[0.09, 0.10, 0.09], [0.10, 0.11, 0.10]], alpha=3.0).groups[::-1]
    assert not is_farther(far, near, "lira")
