"""One self-contained page for one run."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TypedDict

import numpy as np

from advunlearn.evaluation.comparison import strongest_attack
from advunlearn.evaluation.metrics_file import MODELS, Metrics, read_metrics
from advunlearn.report.parts import card, figure, fill
from advunlearn.report.run.table import HEADINGS, Row, metrics_csv, notes, rows, verdict
from advunlearn.storage.files import atomic_write, read_json

CAPTIONS = {
    "trace": (
        "The two players",
        "Every audit step of the game. Dotted lines: what an auditor sees that cannot tell forget from audit examples. "
        "The auditor is refitted at every step; when it can tell, the game's gradient pushes the leader to where it "
        "cannot.",
    ),
    "roc": (
        "Attacks at every threshold",
        "Both axes are logarithmic: an attack that is sure of a few examples shows at the left. Dotted: guessing.",
    ),
    "losses": (
        "Losses of forget and test examples",
        "Where the two colours lie apart, the loss alone tells members from non-members. Compare the third panel with "
        "the second.",
    ),
}

INTRODUCTION = """<h2>The three models side by side</h2>
<p>The <b class="retrained">retrained</b> model never saw the forget set: it is what unlearning aims at. The gap is the
<b class="unlearned">unlearned</b> model's number less the retrained model's. Brackets hold 95&nbsp;% intervals. An
attack's AUC is the chance that it ranks a forget example above a test example; far below one half is as much a leak as
far above it.</p>"""


class _Recorded(TypedDict):
    started: str
    seed: int
    device: str
    device_name: str
    threads: int
    versions: dict[str, str]


class Provenance(_Recorded, total=False):
    """What the page shows of `manifest.json`; some of it is not known of every run."""

    overrides: list[str]
    choices: dict[str, object]
    splits: dict[str, int]
    reference_requests: int


def write_report(folder: Path, pictures: dict[str, bytes] | None = None) -> Path:
    """Write `report.html`, its pictures and `metrics.csv` into a finished run's folder and return the page's path.

    Args:
        folder: of a run.
        pictures: PNGs by name; None draws them from the run's scores.

    Raises:
        UnreadableFile: if the folder does not hold a finished run of this version.
    """
    metrics, manifest = read_metrics(folder), read_json(folder / "manifest.json", Provenance)
    if pictures is None:
        from advunlearn.report.run.pictures import draw

        with np.load(folder / "scores.npz", allow_pickle=False) as scores:
            pictures = draw(metrics["trace"], dict(scores))
    for name, picture in pictures.items():
        with atomic_write(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture)
    with atomic_write(folder / "metrics.csv") as temporary:
        temporary.write_text(metrics_csv(metrics))
    page = folder / "report.html"
    with atomic_write(page) as temporary:
        temporary.write_text(render(metrics, manifest, pictures), encoding="utf-8")
    return page


def render(metrics: Metrics, manifest: Provenance, pictures: dict[str, bytes]) -> str:
    """Return the page: the verdict, the numbers, the pictures, and what it was computed with."""
    overrides = " ".join(manifest.get("overrides", []))
    command = f"advunlearn run {overrides}".strip()
    choices = manifest.get("choices", {})
    named = [str(choices[group]) for group in ("dataset", "model", "unlearner") if choices.get(group)]
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes(metrics)[1:])
    body = [
        f"<div class='cards'>{''.join(_cards(metrics))}</div>",
        INTRODUCTION,
        f"<div class='wide'><table>{_table(rows(metrics))}</table></div><ul class='soft'>{listed}</ul>",
        *(figure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures),
    ]
    return fill(
        title=escape("Unlearning report" + (": " + ", ".join(named) if named else "")),
        subtitle=f"<code>{escape(command)}</code> &middot; {escape(manifest['started'].replace('T', ' '))}",
        verdict=escape(verdict(metrics)),
        body="\n".join(body),
        footer=_footer(manifest),
    )


def _cards(metrics: Metrics) -> list[str]:
    models, strongest = metrics["models"], strongest_attack([metrics])
    values = {
        f"AUC of {strongest}": [models[name]["attacks"][strongest]["auc"] for name in MODELS],
        "accuracy on the test set": [models[name]["accuracy"]["test"] for name in MODELS],
        "accuracy on the forget set": [models[name]["accuracy"]["forget"] for name in MODELS],
    }
    return [
        card(title, {name: f"{value:.3f}" for name, value in zip(MODELS, found, strict=True)})
        for title, found in values.items()
    ]


def _table(lines: list[Row]) -> str:
    words = (0, 1, 6, 7)
    head = "".join(f"<th class='{'words' if i in words else name}'>{name}</th>" for i, name in enumerate(HEADINGS))
    body, previous = [], ""
    for row in lines:
        new = row.section != previous
        cells = [row.section if new else "", row.name, *map(_with_interval, row.values), row.gap, row.wanted, row.on]
        marked = "".join(f"<td class='words'>{c}</td>" if i in words else f"<td>{c}</td>" for i, c in enumerate(cells))
        body.append(f"<tr class='section'>{marked}</tr>" if new else f"<tr>{marked}</tr>")
        previous = row.section
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _with_interval(value: str) -> str:
    number, _, interval = value.partition(" ")
    return f"{number}<span class='interval'>{interval}</span>" if interval else number


def _footer(manifest: Provenance) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    splits = ", ".join(f"{name} {count}" for name, count in manifest.get("splits", {}).items())
    lines = [
        f"Examples: {splits}. Seed {manifest['seed']}.",
        *_references(manifest),
        f"Device {manifest['device']} ({manifest['device_name']}), {manifest['threads']} CPU threads. {versions}.",
    ]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _references(manifest: Provenance) -> list[str]:
    requests = manifest.get("reference_requests", 0)
    return [f"Requests to forget that share the reference models, so far: {requests}."] if requests else []
