"""One self-contained page for one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import strongest_attack
from advunlearn.evaluation.further_metrics import Relearning
from advunlearn.evaluation.metrics_file import Metrics, Rounds, Trace, read_metrics
from advunlearn.evaluation.names import MODELS
from advunlearn.report.drawing import NotDrawn, drawing, drawn
from advunlearn.report.html import Card, render_page
from advunlearn.report.run import first_page
from advunlearn.report.run.table import metrics_csv, notes, rows, verdict
from advunlearn.runtime.arrays import Rows
from advunlearn.storage.files import atomic_write, read_json


class _Recorded(TypedDict):
    started: str
    seed: int
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]


class Provenance(_Recorded, total=False):
    """What the page shows of `manifest.json`; some of it is not known of every run."""

    call: str
    command: str
    request: str | None
    checksums: dict[str, str]
    dataset_checksum: str
    original: dict[str, Any] | None
    git: dict[str, Any] | None
    overrides: list[str]
    choices: dict[str, object]
    splits: dict[str, int]
    reference_requests: int


def write_report(folder: Path, pictures: dict[str, bytes] | None = None) -> Path:
    """Write `report.html`, its pictures and `metrics.csv` into a finished run's folder and return the page's path.

    Args:
        folder: of a run.
        pictures: PNGs by name; None draws them from the run's scores, if matplotlib can.

    Raises:
        UnreadableFile: if the folder does not hold a finished run of this version.
    """
    metrics, manifest = read_metrics(folder), read_json(folder / "manifest.json", Provenance, optional=True)
    if pictures is None:
        pictures = drawn(
            lambda: draw_pictures(
                metrics["trace"],
                _read_scores(folder / "scores.npz"),
                metrics.get("rounds"),
                folder,
                metrics.get("relearning"),
            )
        )
    for name, picture in pictures.items():
        with atomic_write(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture)
    with atomic_write(folder / "metrics.csv") as temporary:
        temporary.write_text(metrics_csv(metrics), encoding="utf-8")
    page = folder / "report.html"
    with atomic_write(page) as temporary:
        temporary.write_text(
            render(metrics, manifest, pictures, folder=folder, forget=_forget_set(folder / "splits.npz")),
            encoding="utf-8",
        )
    return page


def rewrite(folder: Path) -> None:
    """Write the page of a run again, with the pictures that are in its folder: its request or command is another."""
    write_report(folder, {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))})


def _forget_set(path: Path) -> Rows | None:
    """Return the forget set of the run with these splits; None if the file cannot be read."""
    try:
        return Splits.load(path).forget
    except Exception:  # as of `_read_scores`
        return None


def _read_scores(path: Path) -> dict[str, NDArray[Any]]:
    """Return the scores of a run.

    Raises:
        NotDrawn: if the file cannot be read: what is drawn from it is only a part of the report.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except Exception as error:  # NumPy and zipfile raise errors of many families for what a file may hold
        raise NotDrawn(f"{path}: {type(error).__name__}: {error}") from error


def draw_pictures(
    trace: Trace,
    scores: Mapping[str, NDArray[Any]],
    rounds: Rounds | None = None,
    folder: Path | None = None,
    relearning: Relearning | None = None,
) -> dict[str, bytes]:
    """Return the pictures of a run by name; see `pictures.draw`. With a folder, also write them there as PDF and SVG.

    Raises:
        NotDrawn: if matplotlib fails.
    """
    with drawing():
        from advunlearn.report.run.pictures import draw, vector_files  # matplotlib takes a second to import

        return draw(trace, scores, rounds, None if folder is None else vector_files(folder), relearning)


def render(
    metrics: Metrics,
    manifest: Provenance,
    pictures: dict[str, bytes],
    template: str = "run.html",
    folder: Path | None = None,
    forget: Rows | None = None,
) -> str:
    """Return the page: the verdict, the numbers, the pictures, and what it was computed with.

    The template `table.html` gives the verdict and the numbers alone, for a notebook. A page without pictures tells how
    they are drawn, if the run has a folder. The first page names the forget set (n,), if it is given.
    """
    choices = manifest.get("choices", {})
    named = [str(choices[group]) for group in ("dataset", "model", "unlearner") if choices.get(group)]
    return render_page(
        template,
        pictures,
        title="Unlearning report" + (": " + ", ".join(named) if named else ""),
        conclusion=first_page.conclusion(metrics),
        asked=first_page.asked(metrics, manifest, forget),
        done=first_page.done(metrics, manifest, _command(manifest)),
        limits=first_page.limits(metrics, manifest),
        verdict=verdict(metrics),
        cards=_cards(metrics),
        models=MODELS,
        rows=rows(metrics),
        notes=notes(metrics)[1:],
        manifest=manifest,
        later=None if pictures or folder is None else f"advunlearn report {folder}",
    )


def _command(manifest: Provenance) -> str:
    """Return the command as it was typed, or the call in Python; of an older run, what is known of it."""
    known = manifest.get("call") or manifest.get("command")
    return known or " ".join(["advunlearn run", *manifest.get("overrides", [])])


def _cards(metrics: Metrics) -> list[Card]:
    models, strongest = metrics["models"], strongest_attack([metrics])
    values = {
        f"AUC of {strongest}": [models[name]["attacks"][strongest]["auc"] for name in MODELS],
        "accuracy on the test set": [models[name]["accuracy"]["test"] for name in MODELS],
        "accuracy on the forget set": [models[name]["accuracy"]["forget"] for name in MODELS],
    }
    return [
        (title, {name: f"{value:.3f}" for name, value in zip(MODELS, found, strict=True)})
        for title, found in values.items()
    ]
