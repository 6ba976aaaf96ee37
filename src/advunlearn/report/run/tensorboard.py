"""What a run found, for TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from advunlearn.evaluation.metrics_file import Metrics

logger = logging.getLogger(__name__)

EVENTS = "events.out.tfevents.*"  # what TensorBoard calls its files


def write_events(folder: Path, metrics: Metrics) -> None:
    """Write a run's trace and metrics into its folder, in place of those of an earlier attempt.

    `game/*` has a value for each audit step, `epochs/*` for each epoch that was judged, and each model's metrics one.
    All of it is in `metrics.json` as well: an error is logged, and the run continues.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra

        for earlier in folder.glob(EVENTS):
            earlier.unlink()
        with SummaryWriter(str(folder)) as writer:
            for tag, value, step in scalars(metrics):
                writer.add_scalar(tag, value, step)
    except Exception as error:  # another package and its dependencies may raise any
        logger.warning("nothing was written for TensorBoard (%s: %s)", type(error).__name__, error)


def scalars(metrics: Metrics) -> Iterator[tuple[str, float, int]]:
    """Yield tag, value and step of everything in `metrics.json` that has a place in TensorBoard."""
    trace = metrics["trace"]
    yield from _columns("game", trace.get("step", []), trace)
    if "epochs" in trace:
        yield from _columns("epochs", trace["epochs"]["step"], trace["epochs"])
    for model, found in metrics["models"].items():
        for part, value in found["accuracy"].items():
            yield f"{model}/accuracy_{part}", value, 0
        yield f"{model}/loss_ks", found["loss_ks"], 0
        yield f"{model}/loss_wasserstein", found["loss_wasserstein"], 0
        for attack, each in found["attacks"].items():
            yield f"{model}/auc_{attack}", each["auc"], 0
    for compared, gap in metrics["gap"].items():
        for attack, value in gap["attacks"].items():
            yield f"gap/{compared}_{attack}", value, 0
    yield "time/unlearning_over_retraining", metrics["unlearning_over_retraining"], 0


def _columns(section: str, steps: Sequence[int], columns: Mapping[str, object]) -> Iterator[tuple[str, float, int]]:
    """Yield the columns of a trace that have a value for each step, without values that are None."""
    for name, column in columns.items():
        if name != "step" and isinstance(column, list) and len(column) == len(steps):
            known = zip(column, steps, strict=True)
            yield from ((f"{section}/{name}", value, step) for value, step in known if value is not None)
