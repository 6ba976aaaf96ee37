"""`scripts/paired_gaps.py`: its tables say what the metrics of the runs say."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import advunlearn

SCRIPT = Path(__file__).parents[1] / "scripts" / "paired_gaps.py"
ATTACKS = ("lira", "rmia", "threshold")
# The criterion of the epoch that is kept is in the trace, to hold the script's own against.
GAME = ["optimizer.epochs=3", "unlearner.epochs=2", "unlearner.keep_epoch=best", "attack.shadows=4", "threads=1"]
AUDITORS = {"svm": "1", "likelihood_ratio": "2"}  # and an alpha for each
SEEDS = (0, 1)
STUDENT = 12.7062  # half a 95 % interval of two values, in standard errors


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("paired")
        patch.setenv("ADVUNLEARN_CACHE", str(root / "cache"))
        for auditor, alpha in AUDITORS.items():
            words = [*GAME, f"attack=[{','.join(ATTACKS)}]", f"auditor={auditor}", f"unlearner.alpha={alpha}"]
            for seed in SEEDS:
                advunlearn.run([*words, f"seed={seed}"], root / "runs" / f"{auditor}-{seed}")
        waiting = root / "runs" / "waiting"
        waiting.mkdir()
        (waiting / "config.yaml").write_text("seed: 2\n")
    return root / "runs"


def read_metrics(outputs: Path, auditor: str) -> list[dict[str, Any]]:
    return [json.loads((outputs / f"{auditor}-{seed}" / "metrics.json").read_text()) for seed in SEEDS]


def read_tables(text: str) -> list[dict[str, str]]:
    """Return the rows of printed tables, by column."""
    rows: list[dict[str, str]] = []
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not heads or not cells:
            heads = cells
        elif set(cells) != {"---"}:
            rows.append(dict(zip(heads, cells, strict=True)))
    return rows


def test_the_tables_say_what_the_metrics_say(
    outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(outputs)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    first, second, difference = read_tables(capsys.readouterr().out)
    found = {auditor: read_metrics(outputs, auditor) for auditor in AUDITORS}

    assert (first["auditor"], second["auditor"]) == ("SVM", "LikelihoodRatio")
    for row, (auditor, alpha) in zip((first, second), AUDITORS.items(), strict=True):
        assert (row["alpha"], row["seeds"]) == (alpha, "2")
        kept = [max(metrics["trace"]["epochs"]["utility"]) for metrics in found[auditor]]
        assert_says(row["accuracy minus attack, selection set"], kept)

    assert (difference["alphas"], difference["seeds"]) == ("1, 2", "2")
    svm, ratio = ([metrics["models"]["unlearned"] for metrics in found[auditor]] for auditor in AUDITORS)
    for part in ("test", "retain"):
        assert_says(
            difference[part], [a["accuracy"][part] - b["accuracy"][part] for a, b in zip(svm, ratio, strict=True)]
        )
    larger = []
    for attack in ATTACKS:
        aucs = [[model["attacks"][attack]["auc"] for model in models] for models in (svm, ratio)]
        assert_says(difference[f"AUC {attack}"], [a - b for a, b in zip(*aucs, strict=True)])
        retrained = [metrics["models"]["retrained"]["attacks"][attack]["auc"] for metrics in found["svm"]]
        gaps = [[abs(auc - gold) for auc, gold in zip(each, retrained, strict=True)] for each in aucs]
        less = [a - b for a, b in zip(*gaps, strict=True)]
        assert_says(difference[f"gap {attack}"], less)
        larger.append(str(sum(value > 0 for value in less)))
    assert difference["gaps larger in"] == ", ".join(larger)


def test_a_second_run_of_the_same_auditor_alpha_and_seed_is_refused(
    outputs: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    again = Path(shutil.copytree(outputs / "svm-0", workplace / "again"))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(outputs / "svm-0"), str(again)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().err.endswith(f"error: {again}: another run of SVM, alpha 1 and seed 0\n")


def assert_says(cell: str, values: list[float]) -> None:
    """Hold `mean ± half of the interval`, in thousandths, against the two values that it is said to come from."""
    one, other = values
    mean, half = map(float, cell.split(" ± "))
    assert mean == pytest.approx((one + other) / 2, abs=5.1e-4)
    assert half == pytest.approx(STUDENT * abs(one - other) / 2, abs=5.1e-4)
