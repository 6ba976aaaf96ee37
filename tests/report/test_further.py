"""What is reported of many models and of weights: in the table, the page, the files and the summary of runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from advunlearn.evaluation.metrics_file import Metrics, read_metrics
from advunlearn.evaluation.names import MODELS
from advunlearn.evaluation.operating import operating_point
from advunlearn.report.run.table import metrics_csv, records
from advunlearn.report.run.terminal import comparison_table
from advunlearn.report.summary.columns import PRIORS
from advunlearn.report.summary.folders import find_runs
from advunlearn.report.summary.formats import FORMATS, text
from advunlearn.report.summary.runs import Summary, summarise
from advunlearn.report.summary.selection import select
from tests.report.runs import config, metrics, write


def full(scale: float = 1.0) -> Metrics:
    """Return metrics with every further number: those of the unlearned model are `scale` times 2."""
    found = metrics({"lira": 0.1})
    factors = dict(zip(MODELS, (3.0, 1.0, 2.0 * scale), strict=True))
    found["distributions"] = {
        "models": {
            name: {
                "klom": {"retain": 1.25 * factor, "forget": 1.5 * factor, "test": 1.75 * factor},
                "forgetting_quality": 0.125 * factor,
                "competition_score": 0.0625 * factor,
            }
            for name, factor in factors.items()
        },
        "reason": "",
        "each": 32,
        "examples": {"retain": 200, "forget": 50, "test": 200},
    }
    found["neighbours"] = {
        "models": {
            "original": {"distance": 0.25, "null_high": 0.0625, "p_value": 0.5},
            "unlearned": {"distance": 0.125 * scale, "null_high": 0.03125, "p_value": 0.25},
        },
        "floor": None if scale > 1 else 0.1875,
        "examples": 75,
        "references": 3,
    }
    found["weights"] = {
        "models": {
            name: {
                "from_original": 0.375 * factor,
                "from_retrained": 0.25 * factor,
                "barrier": {"retain": 0.01 * factor, "test": 0.02 * factor},
            }
            for name, factor in factors.items()
        },
        "reason": "",
        "examples": {"retain": 200, "test": 1000},
        "points": 5,
    }
    found["relearning"] = {
        "models": {
            name: {
                "step": [0, 1],
                "forget": [0.5, 0.1875 * factor],
                "forget_low": [0.4, 0.15 * factor],
                "forget_high": [0.6, 0.2 * factor],
                "test": [0.9, 0.9],
                "auc": [0.5, 0.125 * factor],
                "auc_low": [0.4, 0.1 * factor],
                "auc_high": [0.6, 0.15 * factor],
            }
            for name, factor in factors.items()
        },
        "epochs": 1,
        "lr": 0.1,
        "examples": {"forget": 50, "test": 200},
        "attacked": {"forget": 50, "test": 180},
    }
    rates = dict.fromkeys(("tpr_at_fpr_0.01", "tpr_at_fpr_0.01_low", "tpr_at_fpr_0.01_high", "p_value"), 0.01)
    found["canaries"] = {
        "models": {
            name: {"auc": 0.15625 * factor, "auc_low": 0.1, "auc_high": 0.9, **rates}  # type: ignore[typeddict-item]
            for name, factor in factors.items()
        },
        "examples": 50,
    }
    found["swap"] = {
        "models": {
            name: {"advantage": 0.0625 * factor, "advantage_low": 0.0, "advantage_high": 0.5}
            for name, factor in factors.items()
        },
        "examples": 50,
    }
    found["unlearning"] = {"reads": ["retain"], "peak_memory": 1_234_000_000, "device": "cuda"}
    return found


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    for seed, scale in enumerate((1.0, 2.0)):
        write(tmp_path / str(seed), config(seed), full(scale))
    return summarise(find_runs([tmp_path]))


def test_the_table_names_what_each_number_was_computed_on() -> None:
    lines = comparison_table(full()).splitlines()
    (first,) = (line for line in lines if "KLoM retain" in line)
    assert first.split("  ")[0] == "many models"
    (klom,) = (line for line in lines if "KLoM forget" in line)
    assert [word for word in klom.split() if "." in word] == ["4.500", "1.500", "3.000", "+1.500"]
    assert klom.endswith("match retrained  50 forget, 32 and 32 models")
    (barrier,) = (line for line in lines if "barrier test" in line)
    assert barrier.rstrip().endswith("no target        1000 test, 5 points")


def test_every_number_is_in_the_records_and_in_the_csv_of_a_run() -> None:
    rows = {row["name"]: row for row in records(full()) if row["section"] in ("many models", "weights")}
    assert len(rows) == 9
    assert (rows["from original"]["unlearned"], rows["competition score"]["original"]) == (0.75, 0.1875)
    lines = {
        (line["model"], line["metric"]): line["value"] for line in csv.DictReader(io.StringIO(metrics_csv(full())))
    }
    assert lines["unlearned", "many_models_KLoM_test"] == "3.5"
    assert lines["unlearned", "relearning_accuracy_forget"] == "0.375"
    assert lines["retrained", "weights_barrier_retain"] == "0.01"


def test_neighbour_classes_have_a_floor_if_it_is_known() -> None:
    lines = [line.split() for line in comparison_table(full()).splitlines() if "75 of the class, 3 retrained" in line]
    assert lines[0][2:7] == ["distance", "0.250", "0.188", "0.125", "-0.062"]
    assert "none" in lines[1]
    (line,) = (line for line in comparison_table(full(2.0)).splitlines() if line.startswith("neighbour classes"))
    assert line.split()[2:6] == ["distance", "0.250", "none", "0.250"]


def test_precision_is_in_the_table_and_among_the_numbers_to_choose(tmp_path: Path) -> None:
    found = metrics({"lira": 0.1, "threshold": 0.1})
    for model, above in zip(MODELS, (5, 2, 0), strict=True):
        scores = np.concatenate([np.arange(10) < above, np.zeros(10)])
        point = operating_point(scores, np.arange(20) < 10, {"value": 0.5, "models": 16, "scores": 320})
        found["models"][model]["attacks"]["lira"]["operating"] = point
    (line,) = (line for line in comparison_table(found).splitlines() if line.startswith("precision, prior 10%"))
    assert line.split()[3:9] == ["lira", "1.000", "[.05,", "1]", "1.000", "[.01,"]
    assert "none" in line
    assert "threshold,operating" not in metrics_csv(found)
    assert "retrained,lira,operating_tpr,0.2\n" in metrics_csv(found)
    write(tmp_path / "run", config(), found)
    lines = csv.DictReader(io.StringIO(FORMATS["csv"](select(summarise(find_runs([tmp_path])), ["precision"]))))
    assert {line["metric"] for line in lines} == {f"precision_at_prior_{prior}" for prior in PRIORS}
    point = read_metrics(tmp_path / "run")["models"]["unlearned"]["attacks"]["lira"]["operating"]
    assert point["precision_at_prior_0.01"] is None


def test_a_run_without_them_says_why_or_nothing() -> None:
    assert "KLoM" not in comparison_table(metrics({"lira": 0.1}))
    found = full()
    found["distributions"] |= {"models": {}, "reason": "6 are too few"}
    found["weights"] |= {"models": {}, "reason": "another architecture"}
    table = comparison_table(found)
    assert "no KLoM and no forgetting quality: 6 are too few" in table
    assert "no distance between weights: another architecture" in table
    assert "KLoM forget" not in table
    assert "many_models" not in metrics_csv(found)


def test_metrics_with_them_are_read_from_a_file(tmp_path: Path) -> None:
    assert read_metrics(write(tmp_path / "run", config(), full())) == full()


def test_a_document_and_a_paper_have_columns_for_which_a_terminal_has_no_room(summary: Summary) -> None:
    head, *_ = FORMATS["markdown"](summary).splitlines()
    names = [
        "relearning accuracy forget",
        "relearning widest gap",
        "canaries AUC",
        "neighbour classes distance",
        "swap advantage",
        "many models KLoM forget",
        "many models forgetting quality",
        "weights from original",
        "weights barrier test",
        "memory MB",
    ]
    assert all(f"| {name} |" in head for name in names)
    assert "forgetting quality" in FORMATS["latex"](summary)
    first, *rest = text(summary, 1000).splitlines()
    assert not any(name in first for name in names)
    assert f"further columns with --wide and in the other formats: {', '.join(names)}" in rest


def test_the_summary_has_the_mean_over_seeds_of_each_model(summary: Summary) -> None:
    lines = list(csv.DictReader(io.StringIO(FORMATS["csv"](summary))))
    of = {(line["model"], line["metric"]): float(line["mean"]) for line in lines}
    assert of["unlearned", "relearning_accuracy_forget"] == 0.1875 * 3
    assert of["original", "relearning_widest_gap"] == 0.1875 * (3 - 1)
    assert of["unlearned", "swap_advantage"] == 0.0625 * 3
    assert of["unlearned", "canaries_auc"] == 0.15625 * 3
    assert of["unlearned", "neighbour_distance"] == 0.125 * 1.5
    assert of["retrained", "neighbour_distance"] == 0.1875
    assert of["unlearned", "klom_forget"] == 1.5 * 3  # factors of 2 and 4
    assert of["retrained", "forgetting_quality"] == 0.125
    assert of["original", "weights_from_original"] == 0.375 * 3
    assert of["unlearned", "peak_memory_mb"] == 1234
    assert ("retrained", "peak_memory_mb") not in of


def test_the_growth_of_a_process_is_no_column(tmp_path: Path) -> None:
    found = full()
    found["unlearning"]["device"] = "cpu"
    write(tmp_path / "run", config(), found)
    assert "memory" not in FORMATS["markdown"](summarise(find_runs([tmp_path])))
