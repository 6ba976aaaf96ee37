"""Two followers of the game beside each other, seed by seed: by how much one's gaps to the retrained model are larger,
and what the selection set says of each, by which alpha can be chosen without the test set.

    python scripts/paired_gaps.py RUN... [--auditors SVM LikelihoodRatio]

RUN: folders of finished runs, or with such below them, that differ in auditor, alpha and seed alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from advunlearn.config.compose import experiment_from
from advunlearn.report.summary.columns import Estimate
from advunlearn.report.summary.folders import Run, find_runs, read_run
from advunlearn.report.summary.verdict import shown
from advunlearn.runs.manifest import Manifest
from advunlearn.runs.state import read_manifest
from advunlearn.stages.data import prepare
from advunlearn.stages.unlearn import make_task
from advunlearn.unlearners.best_epoch import BestEpoch

ATTACKS = ("lira", "rmia", "threshold")


def auditor_and_alpha(run: Run) -> tuple[str, float]:
    """Return what the runs differ in."""
    return str(run.config["unlearner.auditor._target_"]).rpartition(".")[2], float(run.config["unlearner.alpha"])


def criterion(run: Run) -> float:
    """Return accuracy minus attack of the unlearned model on the selection set; see `BestEpoch`."""
    experiment = experiment_from((read_manifest(run.folder) or {})["overrides"])
    with tempfile.TemporaryDirectory() as folder, Manifest(Path(folder) / "run") as manifest:
        experiment, trainer, splits = prepare(experiment, manifest)
    network = trainer.fresh("original")
    network.load_state_dict(load_file(run.folder / "unlearned.safetensors"))
    best = BestEpoch(network, make_task(trainer, splits, splits.retain, splits.forget, None))
    best.judge(0)
    return float(best.records[0]["utility"])


def figures(run: Run) -> dict[str, float]:
    """Return AUCs, sizes of the gaps, accuracies, and the selection set's criterion."""
    metrics: Any = run.metrics or {}
    model, gaps = metrics["models"]["unlearned"], metrics["gap"]["unlearned"]["attacks"]
    return {
        **{attack: abs(gaps[attack]) for attack in ATTACKS},
        **{f"AUC {attack}": model["attacks"][attack]["auc"] for attack in ATTACKS},
        **{part: model["accuracy"][part] for part in ("test", "retain")},
        "criterion": criterion(run),
    }


def row(cells: Iterable[object]) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--auditors", nargs=2, default=["SVM", "LikelihoodRatio"])
    options = parser.parse_args()
    found: dict[tuple[str, float], dict[str, dict[str, float]]] = {}
    for run in map(read_run, find_runs(options.runs)):
        if run.metrics is None:
            continue
        group = auditor_and_alpha(run)
        if group[0] in options.auditors and group[1] > 0:
            seeds = found.setdefault(group, {})
            if run.seed in seeds:
                parser.error(f"{run.folder}: another run of {group[0]}, alpha {group[1]:g} and seed {run.seed}")
            seeds[run.seed] = figures(run)
    first, second = (sorted(group for group in found if group[0] == name) for name in options.auditors)

    row(["auditor", "alpha", "seeds", "accuracy minus attack, selection set"])
    row(["---"] * 4)
    for name, alpha in [*first, *second]:
        criteria = tuple(each["criterion"] for each in found[name, alpha].values())
        row([name, f"{alpha:g}", len(criteria), shown(Estimate(criteria))])
    print(f"\n{options.auditors[0]} less {options.auditors[1]}, seed by seed: sizes of gaps, and the rest\n")
    columns = (*ATTACKS, *(f"AUC {attack}" for attack in ATTACKS), "test", "retain")
    row(["alphas", "seeds", *(f"gap {attack}" for attack in ATTACKS), *columns[len(ATTACKS) :], "gaps larger in"])
    row(["---"] * (len(columns) + 3))
    for one in first:
        for other in second:
            both = [(found[one][seed], found[other][seed]) for seed in found[one] if seed in found[other]]
            less = {key: Estimate(tuple(a[key] - b[key] for a, b in both)) for key in columns}
            larger = [str(sum(value > 0 for value in less[attack].values)) for attack in ATTACKS]
            cells = [shown(less[key], sign="+") for key in columns]
            row([f"{one[1]:g}, {other[1]:g}", len(both), *cells, ", ".join(larger)])


if __name__ == "__main__":
    main()
