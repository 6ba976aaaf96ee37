"""Where the time of a run went: a trace of each stage that viewers open, and a table of its longest operations."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advunlearn.runtime.profiling import Recording, prepare
from advunlearn.storage.files import atomic_write

if TYPE_CHECKING:
    import torch
    from torch.profiler import profile

logger = logging.getLogger(__name__)

FOLDER = "profile"  # in a run's folder
EVENTS = 250_000  # of a trace, below 20 MB
ROWS = 20  # of a table
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of what a GPU does

Event = dict[str, Any]


@dataclass
class Profile:
    """Record the stages of a run, and write what was recorded into its folder.

    Attributes:
        folder: of the run.
        device: that it computes on.
        written: stages that have a trace.
        reused: stages whose results came from the store, so that there was nothing to record.
        elsewhere: stages that had worker processes, which are not recorded.
    """

    folder: Path
    device: torch.device
    written: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def begin(self) -> Recording:
        """Return a recording that runs."""
        recording = Recording(self.device)
        recording.begin()
        return recording

    def write(self, stage: str, recording: Recording, seconds: float, *, reused: bool) -> None:
        """Write the trace and the table of a stage of so many seconds, unless it computed nothing."""
        if reused and not recording.trainings:
            self.reused.append(stage)
            return
        events, trace = read_events(recording.parts)
        if not any(event.get("cat") in ("cpu_op", *ON_DEVICE) for event in events):
            return
        if len(events) > EVENTS:
            logger.info("%s/%s.json.gz has the first %d of %d events", FOLDER, stage, EVENTS, len(events))
        path = self.folder / FOLDER / f"{stage}.json.gz"
        trace |= {"traceName": path.name, "traceEvents": events[:EVENTS]}
        with atomic_write(path) as temporary, gzip.open(temporary, "wt", compresslevel=5, encoding="utf-8") as file:
            json.dump(trace, file, separators=(",", ":"))
        with atomic_write(path.with_name(f"{stage}.txt")) as temporary:
            temporary.write_text(table(stage, recording, seconds, events), encoding="utf-8")
        self.written.append(stage)
        if recording.elsewhere:
            self.elsewhere.append(stage)

    def conclude(self) -> None:
        """Log what was recorded, and what was not."""
        if self.written:
            logger.info(
                "profile: %s in %s; https://ui.perfetto.dev opens a trace",
                ", ".join(self.written),
                self.folder / FOLDER,
            )
        if self.elsewhere:
            logger.info("profile: worker processes of %s are not recorded (try workers=1)", ", ".join(self.elsewhere))
        if self.reused:
            logger.info(
                "profile: %s came from the store, so there was nothing to record (an empty folder as "
                "ADVUNLEARN_CACHE computes everything again)",
                ", ".join(self.reused),
            )


@contextlib.contextmanager
def profiled(folder: Path, device: torch.device, *, wanted: bool) -> Iterator[Profile | None]:
    """Give the profile of a run that computes on this device inside; None if it is not wanted.

    Raises:
        UserError: if torch's profiler cannot record.
    """
    if not wanted:
        yield None
        return
    prepare(device)
    found = Profile(folder, device)
    try:
        yield found
    finally:
        found.conclude()


def read_events(parts: Iterable[profile]) -> tuple[list[Event], dict[str, Any]]:
    """Return the events of all parts in the order of time, and what else a trace file holds."""
    events: list[Event] = []
    trace: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            path = Path(folder) / "part.json"
            part.export_chrome_trace(str(path))
            trace = json.loads(path.read_text(encoding="utf-8"))
            events += trace.pop("traceEvents")
    # Names of processes and threads come first, so that they survive a cut.
    return sorted(events, key=lambda event: (event["ph"] != "M", event.get("ts", 0.0))), trace


def table(stage: str, recording: Recording, seconds: float, events: Sequence[Event]) -> str:
    """Return the longest operations of a stage as text, those of the CPU and those of a GPU apart.

    Args:
        stage, recording: that the events are of.
        seconds: that the stage took.
        events: of its trace.
    """
    steps = ", ".join(f"{count} of {name}" for name, count in recording.trainings)
    operations = [event for event in events if event.get("cat") == "cpu_op"]
    own = self_times(operations)
    lines = [
        f"{stage}: {recording.seconds:.3f} s recorded of {seconds:.3f} s, {sum(own) / 1e6:.3f} s of them in operations",
        f"steps of trainings: {steps or 'none'}",
        "self: without the operations that it calls",
        *_rows("CPU", _by_name(operations, own)),
    ]
    if on_device := [event for event in events if event.get("cat") in ON_DEVICE]:
        lines += _rows("GPU", _by_name(on_device, [event["dur"] for event in on_device]))
    return "\n".join(lines) + "\n"


def self_times(events: Sequence[Event]) -> list[float]:
    """Return the microseconds of each event without those of the events of its thread that lie inside."""
    found = [float(event["dur"]) for event in events]
    threads = defaultdict[Any, list[int]](list)
    for position, event in enumerate(events):
        threads[event["pid"], event["tid"]].append(position)
    for positions in threads.values():
        open_ones: list[int] = []
        for position in sorted(positions, key=lambda each: (events[each]["ts"], -events[each]["dur"])):
            start = events[position]["ts"]
            while open_ones and events[open_ones[-1]]["ts"] + events[open_ones[-1]]["dur"] <= start:
                open_ones.pop()
            if open_ones:
                found[open_ones[-1]] -= events[position]["dur"]
            open_ones.append(position)
    return found


def _by_name(events: Sequence[Event], own: Sequence[float]) -> dict[str, tuple[int, float, float]]:
    """Return the number of events of each name, their own microseconds and all of them."""
    found: dict[str, tuple[int, float, float]] = {}
    for event, microseconds in zip(events, own, strict=True):
        calls, so_far, whole = found.get(event["name"], (0, 0.0, 0.0))
        found[event["name"]] = calls + 1, so_far + microseconds, whole + event["dur"]
    return found


def _rows(where: str, found: dict[str, tuple[int, float, float]]) -> list[str]:
    whole = sum(own for _, own, _ in found.values()) or 1.0
    lines = ["", f"{where + ' operation':50} {'calls':>8} {'self ms':>10} {'share':>7} {'ms':>10}"]
    for name, (calls, own, inclusive) in sorted(found.items(), key=lambda item: -item[1][1])[:ROWS]:
        lines.append(f"{name[:50]:50} {calls:8d} {own / 1e3:10.2f} {own / whole:7.1%} {inclusive / 1e3:10.2f}")
    return lines
