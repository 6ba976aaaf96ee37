"""The audit of the audit in a run's table, notes, files and summary."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from advunlearn.evaluation.metrics_file import Metrics, read_metrics
from advunlearn.report.run.audit_numbers import audit_notes
from advunlearn.report.run.table import metrics_csv, records
from advunlearn.report.run.terminal import comparison_table
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import FORMATS
from advunlearn.report.summary.runs import summarise
from tests.report.runs import config, metrics, write


def audited(*, half: float = 0.05, auc: float = 0.52, sampled: bool = True) -> Metrics:
    """Return metrics with a control 0.04 above its reference, half an interval, and the probe's AUC of the loss."""
    found = metrics({"lira": 0.1})
    found["probe"] = {
        "attacks": {"loss": {"auc": auc, "auc_low": auc - 0.06, "auc_high": auc + 0.06}},
        "void": [] if abs(auc - 0.5) < 0.06 else ["loss"],
        "sampled": sampled,
    }
    found["control"] = {
        "models": 4,
        "attacks": {
            "lira": {
                "auc": 0.55,
                "reference": 0.51,
                "spread": 0.02,
                "difference": 0.04,
                "low": 0.04 - half,
                "high": 0.04 + half,
            }
        },
        "failed": [] if half > 0.04 else ["lira"],
    }
    return found


def test_the_control_is_a_row_whose_interval_holds_the_reference_if_it_passes() -> None:
    (row,) = (row for row in records(audited()) if row["section"] == "control")
    assert (row["name"], row["original"], row["retrained"], row["unlearned"]) == ("lira", 0.8, 0.51, 0.55)
    assert (row["unlearned_low"], row["unlearned_high"]) == pytest.approx((0.5, 0.6))
    assert row["computed on"] == "retrained model 4 as the unlearned one"
    (row,) = (row for row in records(audited(half=0.03)) if row["section"] == "control")
    assert row["unlearned_low"] > row["retrained"]


def test_a_plain_statement_tells_whether_it_passed() -> None:
    assert list(audit_notes(audited())) == [
        "control passed: a retrained model in the place of the unlearned one is within its interval of the other 3 "
        "retrained models under the attack"
    ]
    (line,) = audit_notes(audited(half=0.03))
    assert line.startswith("control FAILED: a retrained model is not within its interval of the other 3 retrained ")
    assert "under lira (+0.040 [+0.010, +0.070])" in line
    assert line in comparison_table(audited(half=0.03))


@pytest.mark.parametrize(
    ("sampled", "why"),
    [(True, "the retrained model has seen the forget set"), (False, "the forget set is not a random sample")],
)
def test_one_line_tells_that_one_half_is_void_and_why(sampled: bool, why: str) -> None:
    void, _ = audit_notes(audited(auc=0.71, sampled=sampled))
    assert void.startswith("the comparison to 0.5 is void")
    assert "loss 0.710 [0.650, 0.770]" in void
    assert why in void
    assert "void" not in comparison_table(audited())


def test_a_run_without_them_says_nothing() -> None:
    assert list(audit_notes(metrics({"lira": 0.1}))) == []
    assert "control" not in metrics_csv(metrics({"lira": 0.1}))


def test_they_are_in_the_files_and_in_the_summary(tmp_path: Path) -> None:
    lines = metrics_csv(audited()).splitlines()
    assert "retrained,lira,control_spread,0.02" in lines
    assert "retrained,loss,probe_auc,0.52" in lines
    for seed, half in enumerate((0.05, 0.03)):
        write(tmp_path / str(seed), config(seed), audited(half=half))
    assert read_metrics(tmp_path / "0") == audited()
    numbers = list(csv.DictReader(io.StringIO(FORMATS["csv"](summarise(find_runs([tmp_path]))))))
    (passed,) = (line for line in numbers if line["metric"] == "control_passed")
    assert (passed["model"], float(passed["mean"])) == ("retrained", 0.5)
