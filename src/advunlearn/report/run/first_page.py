"""The first page of a report, for a reader who signs: the request, what was done, what it shows and what not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advunlearn.evaluation.attack_metrics import AttackMetrics
from advunlearn.evaluation.comparison import primary, strongest_attack
from advunlearn.evaluation.metrics_file import Metrics
from advunlearn.evaluation.names import MODELS
from advunlearn.report.run.audit_numbers import audit_notes
from advunlearn.report.run.table import attack_notes
from advunlearn.runtime.arrays import Rows

FIRST_ROWS = 12  # of the forget set, that the page names
UNKNOWN = "not recorded"

Facts = list[tuple[str, str]]  # a name and what is known of it


def asked(metrics: Metrics, about: Mapping[str, Any], rows: Rows | None) -> Facts:
    """Return what was asked: the request and its examples.

    Args:
        metrics: of the run.
        about: its `manifest.json`.
        rows: the forget set, if it is known.
    """
    sizes = metrics["models"]["original"]["examples"]
    of = f"{sizes['forget']} of {sizes['forget'] + sizes['retain']} training examples"
    given = metrics.get("original")
    before = f", {given['forgotten_before']} of them by earlier requests" if given and given["forgotten_before"] else ""
    listed = [] if rows is None else [("rows", _rows(rows)), ("SHA-256 of the list of rows", row_digest(rows))]
    return [
        ("request", about.get("request") or "no identifier was given (request=ID)"),
        ("date", str(about.get("started", UNKNOWN)).replace("T", " ")),
        ("to forget", of + before),
        *listed,
        ("SHA-256 of the data", about.get("dataset_checksum", UNKNOWN)),
    ]


def row_list(rows: Rows) -> str:
    """Return the text of `forget.txt`: one row number per line, as `forget.path` takes it."""
    return "".join(f"{row}\n" for row in rows)


def row_digest(rows: Rows) -> str:
    """Return the SHA-256 of `forget.txt`, which `sha256sum` prints too."""
    return hashlib.sha256(row_list(rows).encode()).hexdigest()


def done(metrics: Metrics, about: Mapping[str, Any], command: str) -> Facts:
    """Return what was done: the models with their digests, the attacks, the program and the command."""
    given, checksums = about.get("original") or {}, about.get("checksums", {})
    source = f"given: {given['file']}" if given.get("file") else "trained by this run"
    unlearner = about.get("choices", {}).get("unlearner")
    versions, git = about.get("versions", {}), about.get("git") or {}
    commit = f", commit {git['commit'][:12]}{', changed since' if git.get('dirty') else ''}" if git else ""
    facts = [
        ("model before", source),
        ("SHA-256 of its weights", given.get("sha256") or checksums.get("original.safetensors", UNKNOWN)),
        ("method", unlearner or UNKNOWN),
        ("SHA-256 of the new weights", checksums.get("unlearned.safetensors", UNKNOWN)),
        ("compared with", "a model that was trained from scratch without the examples: the retrained model"),
        ("attacked by", "; ".join(_attacks(metrics))),
        ("program", f"advunlearn {versions.get('advunlearn', UNKNOWN)}{commit}"),
        ("command", command),
    ]
    options = " ".join(about.get("overrides", []))
    return [*facts, ("this run of it", options)] if about.get("command") and _is_sweep(command) else facts


def conclusion(metrics: Metrics) -> list[str]:
    """Return what the attacks found, in sentences for a reader who does not know them."""
    compared = metrics["gap"]["unlearned"]["attacks"]  # without those that compare a model with the original
    names = [name for name in primary(metrics["models"]["original"]["attacks"]) if name in compared]
    strongest = strongest_attack([metrics])
    before, after = ([name for name in names if _apart(metrics, model, name)] for model in ("original", "unlearned"))
    if after:
        first = (
            f"Not as if it had never been trained on them: {_of(after, names)} the unlearned model from the "
            "retrained one."
        )
    else:
        first = (
            f"No difference beyond chance was found: {_of([], names)} the unlearned model from a model that was never "
            "trained on these examples."
        )
    if before:
        second = f"The audit could see the examples: before unlearning, {_of(before, names)} the two models."
    else:
        second = (
            "The audit may be too weak to show anything: even before unlearning, no attack tells the model from the "
            "retrained one."
        )
    return [first, second, *_useful(metrics), _pairs(metrics, strongest)]


def limits(metrics: Metrics, about: Mapping[str, Any]) -> list[str]:
    """Return what the report does not show."""
    attack = strongest_attack([metrics])
    found = metrics["models"]["unlearned"]["attacks"][attack]
    halves = (_half(metrics["models"][model]["attacks"][attack]) for model in ("retrained", "unlearned"))
    return [
        "This shows what these attacks found; it does not certify that the examples are forgotten. Another attack, or "
        "the same one with more shadow models, may find more.",
        f"A difference of AUC below about {sum(halves):.2f} cannot be seen with {found['members']} forget and "
        f"{found['nonmembers']} test examples under {attack}. Each interval misses the true value in 1 of 20 cases.",
        "The numbers are over all forget examples together: a single one may still be recognized.",
        f"One training of each model (seed {about.get('seed', UNKNOWN)}): another gives other numbers "
        "(seed=1,2,3 repeats it).",
        "Not examined: copies of the examples in files, backups and logs, copies of the original model, and models "
        "derived from it.",
        *audit_notes(metrics),
        *attack_notes(metrics["models"]["unlearned"]),
    ]


def _rows(rows: Sequence[int] | Rows) -> str:
    shown = ", ".join(str(row) for row in rows[:FIRST_ROWS])
    return f"{shown}, ... ({len(rows)} in forget.txt)" if len(rows) > FIRST_ROWS else shown


def _attacks(metrics: Metrics) -> Iterator[str]:
    attacks = metrics["models"]["unlearned"]["attacks"]
    for name in primary(attacks):
        shadows = attacks[name]["shadows"]
        yield f"{name} ({shadows} shadow models)" if shadows else name


def _is_sweep(command: str) -> bool:
    return not {"-m", "--multirun", "compare", "submit"}.isdisjoint(command.split())


def _apart(metrics: Metrics, model: Any, attack: str) -> bool:
    """Return whether the intervals of an attack's AUC on a model and on the retrained one have nothing in common."""
    ours, theirs = (metrics["models"][each]["attacks"][attack] for each in (model, MODELS[1]))
    return ours["auc_low"] > theirs["auc_high"] or theirs["auc_low"] > ours["auc_high"]


def _of(found: Sequence[str], names: Sequence[str]) -> str:
    """Return `2 of 3 attacks (lira, rmia) tell`, to go before what they tell from each other."""
    if not found:
        return f"none of {len(names)} attacks tells" if len(names) > 1 else f"the attack {names[0]} does not tell"
    listed = f" ({', '.join(found)})" if len(names) > 1 else f" {found[0]}"
    if len(names) == 1:
        return f"the attack{listed} tells"
    return f"{len(found)} of {len(names)} attacks{listed} {'tells' if len(found) == 1 else 'tell'}"


def _pairs(metrics: Metrics, attack: str) -> str:
    values = [metrics["models"][model]["attacks"][attack]["auc"] for model in MODELS]
    before, retrained, after = (f"{100 * value:.1f} %" for value in values)
    return (
        f"{attack}, the strongest attack, takes an example to forget for the more likely training example in {before} "
        f"of its pairs with a test example before unlearning, and in {after} after it; {retrained} is the aim, that of "
        "the retrained model, and 50 % is guessing."
    )


def _useful(metrics: Metrics) -> Iterator[str]:
    before, retrained, after = (f"{100 * metrics['models'][model]['accuracy']['test']:.1f} %" for model in MODELS)
    yield (
        f"The unlearned model classifies {after} of the test examples correctly (before: {before}, retrained: "
        f"{retrained})."
    )
    if metrics["trace"].get("collapsed"):
        yield "It is of no use: on the remaining training examples it is no better than one class for all."


def _half(found: AttackMetrics) -> float:
    return (found["auc_high"] - found["auc_low"]) / 2
