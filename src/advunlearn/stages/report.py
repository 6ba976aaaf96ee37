"""Stage `report`: the files of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.splits import Splits
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import MODELS
from advunlearn.models.foreign import own_module
from advunlearn.report.drawing import drawn
from advunlearn.report.run.first_page import row_list
from advunlearn.report.run.page import draw_pictures, write_report
from advunlearn.report.run.result import Result
from advunlearn.runs.manifest import Manifest
from advunlearn.stages.attack import Evidence
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact
from advunlearn.storage.files import atomic_write, write_json, write_tensors
from advunlearn.storage.store import Store
from advunlearn.training.trainer import Trainer

logger = logging.getLogger(__name__)

FORGET_LIST = "forget.txt"
PICTURES_SCHEMA = 5  # raise it when the pictures change, as that of stage `unlearn`


def write_results(
    manifest: Manifest,
    trainer: Trainer,
    models: Models,
    evidence: Evidence,
    metrics: Metrics,
    *,
    pictures: bool = True,
) -> None:
    """Write metrics, per-example scores, the unlearned weights and the report into the run's folder.

    Without pictures, the page tells how they are drawn.
    """
    folder, scores = manifest.folder, scores_of(trainer, evidence)
    write_json(folder / "metrics.json", metrics)
    write_scores(folder, scores)
    # A given original is a file of the user already.
    kept = ("unlearned",) if "original" in metrics else ("original", "unlearned")
    for name in kept:
        with atomic_write(folder / f"{name}.safetensors") as temporary:
            write_tensors(temporary, models.artefacts[name].tensors)
    with atomic_write(folder / FORGET_LIST) as temporary:
        temporary.write_text(row_list(Splits.load(folder / "splits.npz").forget), encoding="ascii")
    weights = (f"{name}.safetensors" for name in kept)
    manifest.checksum("metrics.json", "scores.npz", "splits.npz", FORGET_LIST, *weights)
    manifest.write()  # the page shows the checksums
    with manifest.stage("report") as stage:

        def draw() -> dict[str, bytes]:
            kept = kept_pictures(trainer.store, models, evidence, metrics, scores)
            stage.note(reused=kept.reused, artefact=kept.digest or None)
            return {name: picture.tobytes() for name, picture in kept.arrays.items()}

        write_report(folder, drawn(draw) if pictures else {})


def write_scores(folder: Path, scores: dict[str, Any]) -> None:
    """Write `scores.npz`."""
    with atomic_write(folder / "scores.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **scores)


def scores_of(trainer: Trainer, evidence: Evidence) -> dict[str, NDArray[Any]]:
    """Return the contents of `scores.npz`: the attacked rows, and the scores of every attack on every model."""
    rows = evidence.rows
    about: dict[str, NDArray[Any]] = {"rows": rows, "member": evidence.members, "label": trainer.pool.labels[rows]}
    return about | evidence.artefact.arrays


def result_of(
    folder: Path | None,
    trainer: Trainer,
    splits: Splits,
    models: Models,
    evidence: Evidence,
    metrics: Metrics,
    about: Mapping[str, Any],
) -> Result:
    """Return what a run or a comparison found, with its networks on the CPU."""
    networks = {name: own_module(models.networks[name].cpu()) for name in MODELS}
    return Result(folder, metrics, networks, scores_of(trainer, evidence), splits, dict(about))


def kept_pictures(
    store: Store,
    models: Models,
    evidence: Evidence,
    metrics: Metrics,
    scores: dict[str, NDArray[Any]],
) -> Artefact:
    """Return the report's pictures, PNGs by name as arrays of bytes, from the store if available.

    A store that cannot be written to does not keep them.

    Raises:
        NotDrawn: if matplotlib fails.
    """
    relearning = metrics.get("relearning")

    def make() -> Artefact:
        pictures = draw_pictures(metrics["trace"], scores, models.rounds, None, relearning)
        return Artefact({}, {}, {name: np.frombuffer(picture, np.uint8) for name, picture in pictures.items()})

    key = {
        "schema": PICTURES_SCHEMA,
        "attack": [evidence.artefact.digest, evidence.artefact.content],
        "unlearned": [models.artefacts["unlearned"].digest, models.artefacts["unlearned"].content],
        **({} if relearning is None else {"relearning": relearning}),
    }
    try:
        return store.get_or_make("pictures", key, make)
    except OSError as error:
        logger.warning("the store does not keep the pictures (%s)", error)
        return make()
