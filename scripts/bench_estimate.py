"""Compare the estimate that a run starts with to the time that it then takes, on an empty store; prints Markdown.

    python scripts/bench_estimate.py                       # three settings for a CPU
    python scripts/bench_estimate.py "model=cnn attack.shadows=16" "attack=ulira attack.originals=8"

A ratio above 1 is an estimate that was too long. `timing` is what the estimate itself took, with what loads code once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from advunlearn.storage.paths import cache_folder

SETTINGS = [
    "",
    "auditor=likelihood_ratio model=cnn attack.shadows=32",
    "experiment=cifar10_cpu attack=[threshold,lira]",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="the overrides of each run in one word", default=SETTINGS)
    print("| overrides | estimated | took | ratio | timing |\n|---|---|---|---|---|")
    for setting in parser.parse_args().settings:
        print(row(setting, run(setting.split())), flush=True)


def run(overrides: list[str]) -> dict[str, Any]:
    """Return the manifest of a run on an empty store, with the data of the usual cache."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, data = Path(scratch), cache_folder() / "data"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "cache").mkdir()
        (folder / "cache" / "data").symlink_to(data.absolute())
        command = [sys.executable, "-m", "advunlearn", "run", *overrides, f"hydra.run.dir={folder / 'run'}"]
        environment = os.environ | {"ADVUNLEARN_CACHE": str(folder / "cache")}
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True, encoding="utf-8")
        return dict(json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8")))


def row(setting: str, manifest: dict[str, Any]) -> str:
    """Return the table's line of a run."""
    estimate = manifest["estimate"]
    took = manifest["seconds"] - estimate["after"]
    data = next(stage["seconds"] for stage in manifest["stages"] if stage["name"] == "data")
    ratio, timing = estimate["seconds"] / took, estimate["after"] - data
    name = setting or "(the default run)"
    return f"| {name} | {estimate['seconds']:.1f} s | {took:.1f} s | {ratio:.2f} | {timing:.1f} s |"


if __name__ == "__main__":
    main()
