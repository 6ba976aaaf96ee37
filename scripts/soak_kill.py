"""Kill a run with -9 at random moments, type the same command again, and hold the end against an unbroken run's.

    python scripts/soak_kill.py                         # the default run, 30 times
    python scripts/soak_kill.py --kills 5 attack=lira attack.shadows=32 checkpoint_seconds=0.5

Each time the store begins empty. `same` means: `metrics.json` equal to the bit but for its seconds, and in the store
the same artefacts with the same contents. `kept` counts the artefacts that were there when the kill came, `again` those
of them that were made a second time, `damaged` what the second run found broken; both must be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES = ("seconds", "unlearning_over_retraining", "references_over_retraining")


def main() -> None:
    """Print the table; exit with status 1 unless every run ended right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as behind `advunlearn run`")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = time.monotonic()
        unbroken = Place(place / "unbroken", options.overrides)
        unbroken.start().wait()
        seconds = time.monotonic() - start
        expected, artefacts = unbroken.metrics(), unbroken.artefacts()
        print(f"unbroken: {seconds:.1f} s, {len(artefacts)} artefacts\n")
        print("| kill | after (s) | while | same | kept | again | damaged |\n|---|---|---|---|---|---|---|")
        failures = 0
        for number in range(1, options.kills + 1):
            moment = rng.uniform(0, seconds)
            broken = Place(place / str(number), options.overrides)
            stage = broken.killed_after(moment)
            kept = broken.artefacts()
            again = broken.start().wait()
            end = broken.artefacts()
            same = again == 0 and broken.metrics() == expected and contents(end) == contents(artefacts)
            remade = sum(end[name] != made for name, made in kept.items())
            damaged = broken.log().count("set aside")
            failures += not same or remade > 0 or damaged > 0
            cells = [number, f"{moment:.2f}", stage, "yes" if same else "NO", len(kept), remade, damaged]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        print(f"\n{options.kills - failures} of {options.kills} ended as the unbroken run")
    sys.exit(failures > 0)


class Place:
    """A folder with a store of its own, in which one command is typed."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.command = [sys.executable, "-m", "advunlearn", "run", *overrides]

    def start(self) -> subprocess.Popen[bytes]:
        """Type the command."""
        environment = {**os.environ, "ADVUNLEARN_CACHE": str(self.folder / "cache")}
        output = (self.folder / "output.txt").open("ab")
        return subprocess.Popen(
            self.command, cwd=self.folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )

    def killed_after(self, seconds: float) -> str:
        """Type the command, kill it after some seconds, and return the stage that it was in."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        manifests = list(self.folder.rglob("manifest.json"))
        if not manifests:
            return "start"
        manifest = json.loads(manifests[0].read_text(encoding="utf-8"))
        stages = ["data", "pretrain", "retrain", "unlearn", "attack", "report", "end"]
        return stages[len(manifest["stages"])] if manifest["status"] == "running" else manifest["status"]

    def metrics(self) -> Any:
        """Return the latest run's metrics but for its times."""
        path = max(self.folder.rglob("metrics.json"), key=lambda path: path.stat().st_mtime, default=None)
        if path is None:
            return None
        return {
            name: value for name, value in json.loads(path.read_text(encoding="utf-8")).items() if name not in TIMES
        }

    def artefacts(self) -> dict[str, dict[str, Any]]:
        """Return the markers of what is in the store, by digest."""
        found = (self.folder / "cache" / "store").glob("??/*/complete.json")
        return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}

    def log(self) -> str:
        """Return all that the command said."""
        return (self.folder / "output.txt").read_text(encoding="utf-8")


def contents(artefacts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the checksums of tensors and arrays, which hold no times."""
    return {
        name: {file: digest for file, digest in marker["files"].items() if not file.endswith(".json")}
        for name, marker in artefacts.items()
    }


if __name__ == "__main__":
    main()
