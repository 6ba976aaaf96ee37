"""Compare the game with its twin (alpha = 0) over seeds in a Markdown table: `python scripts/bench_game.py OVERRIDE...`

Every run goes through the store, so that the table is cheap to print again.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import advunlearn

COLUMNS = {
    "LiRA AUC": lambda model: model["attacks"]["lira"]["auc"],
    "loss AUC": lambda model: model["attacks"]["threshold"]["auc"],
    "classifier AUC": lambda model: model["attacks"]["classifier"]["auc"],
    "forget acc.": lambda model: model["accuracy"]["forget"],
    "retain acc.": lambda model: model["accuracy"]["retain"],
    "test acc.": lambda model: model["accuracy"]["test"],
}


def models_of(overrides: Sequence[str], alphas: Sequence[float], seed: int) -> dict[str, dict[str, Any]]:
    """Return, by name, what one seed's runs measured of every model."""
    found: dict[str, dict[str, Any]] = {}
    for alpha in alphas:
        with tempfile.TemporaryDirectory() as folder:
            run = [*overrides, f"seed={seed}", f"unlearner.alpha={alpha:g}"]
            metrics = advunlearn.run(run, Path(folder) / "run").metrics
        found |= {name: metrics["models"][name] for name in ("original", "retrained")}
        ratio = metrics["unlearning_over_retraining"]
        found["twin, alpha 0" if alpha == 0 else f"game, alpha {alpha:g}"] = {
            **metrics["models"]["unlearned"],
            "ratio": ratio,
        }
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.0, 3.0])
    options = parser.parse_args()
    seeds = [models_of(options.overrides, options.alphas, seed) for seed in range(options.seeds)]
    versions = f"advunlearn {advunlearn.__version__}, torch {torch.__version__}"
    print(f"{versions}, {platform.machine()}, seeds 0..{len(seeds) - 1}")
    print(f"overrides: {' '.join(options.overrides) or 'none'}\n")
    print("| mean (deviation over seeds) | " + " | ".join(COLUMNS) + " | time / retraining |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in seeds[0]:
        values = [[column(seed[name]) for seed in seeds] for column in COLUMNS.values()]
        cells = [
            f"{np.mean(each):.3f} ({np.std(each, ddof=1):.3f})" if len(seeds) > 1 else f"{each[0]:.3f}"
            for each in values
        ]
        ratios = [seed[name]["ratio"] for seed in seeds if "ratio" in seed[name]]
        print(f"| {name} | " + " | ".join(cells) + f" | {f'{np.median(ratios):.2f}' if ratios else ''} |")


if __name__ == "__main__":
    main()
