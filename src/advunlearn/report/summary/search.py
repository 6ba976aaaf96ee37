"""A search for options: its trials on the selection set, and the run that it chose, whose test numbers count.

The test numbers of the other trials are not shown: the best of many is good by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from advunlearn.evaluation.objective import is_better, objective_of
from advunlearn.report.summary.folders import SEARCH, read_run
from advunlearn.runs.state import about, runs_below
from advunlearn.storage.files import read_json, write_json


class Trial(TypedDict):
    """One run of a search.

    Attributes:
        run: the name of its folder.
        options: the values of the overrides that differ between the runs, by key.
        objective: of the run; None if it has none.
        accuracy, attack_auc: of the unlearned model on the selection set; None if the run has no result.
        problem: why there is no objective; empty if there is.
    """

    run: str
    options: dict[str, str]
    objective: float | None
    accuracy: float | None
    attack_auc: float | None
    problem: str


class Search(TypedDict):
    """The contents of `search.json`.

    Attributes:
        objective: its name.
        chosen: the name of the folder of the best run, of equal ones the first; None if none has an objective.
        trials: in their order.
    """

    schema: int
    objective: str
    chosen: str | None
    trials: list[Trial]


def write_search(folder: Path) -> Search:
    """Choose the best run of a search, write `search.json` into its folder, and return its contents."""
    folders = sorted(runs_below(folder), key=lambda run: (len(run.name), run.name))
    typed = [_by_key(about(run).get("overrides", [])) for run in folders]
    varied = [key for key in dict.fromkeys(key for each in typed for key in each) if _varies(key, typed)]
    runs = [read_run(each) for each in folders]
    name = next((str(run.config["objective"]) for run in runs if "objective" in run.config), "utility")
    trials: list[Trial] = []
    chosen: Trial | None = None
    for run, words in zip(runs, typed, strict=True):
        value = None if run.metrics is None else objective_of(run.metrics, name)
        found = run.metrics.get("selection") if run.metrics is not None else None
        model: Any = found["models"]["unlearned"] if found else {}
        trial: Trial = {
            "run": run.folder.name,
            "options": {key: words[key] for key in varied if key in words},
            "objective": value,
            "accuracy": model.get("accuracy"),
            "attack_auc": model.get("attack_auc"),
            "problem": "" if value is not None else run.error or f"no {name} ({run.state})",
        }
        trials.append(trial)
        if value is not None and (chosen is None or is_better(name, value, chosen["objective"] or 0.0)):
            chosen = trial
    search: Search = {
        "schema": 1,
        "objective": name,
        "chosen": chosen["run"] if chosen else None,
        "trials": trials,
    }
    write_json(folder / SEARCH, search)
    return search


def _by_key(overrides: Iterable[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in overrides)}


def _varies(key: str, typed: Sequence[dict[str, str]]) -> bool:
    return len({each.get(key) for each in typed}) > 1


def read_search(folder: Path) -> Search:
    """Return the contents of a folder's `search.json`.

    Raises:
        UnreadableFile: if it is damaged.
    """
    return read_json(folder / SEARCH, Search)


def search_text(search: Search) -> str:
    """Return the trials as a table of lines, the chosen one marked, and what the tables after it show."""
    keys = list(dict.fromkeys(key for trial in search["trials"] for key in trial["options"]))
    head = ["", "run", *keys, f"objective: {search['objective']}", "accuracy selection", "AUC selection"]
    rows = [head, *(_cells(trial, keys, search["chosen"]) for trial in search["trials"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"no result: run {trial['run']}: {trial['problem']}" for trial in search["trials"] if trial["problem"]]
    if search["chosen"] is None:
        return "\n".join([*lines, "no run was chosen"])
    ending = f"* run {search['chosen']} is chosen by {search['objective']}; test numbers are those of this run only"
    return "\n".join([*lines, ending])


def _cells(trial: Trial, keys: Sequence[str], chosen: str | None) -> list[str]:
    numbers = [trial["objective"], trial["accuracy"], trial["attack_auc"]]
    mark = "*" if trial["run"] == chosen else ""
    options = [_short(trial["options"].get(key, "")) for key in keys]
    return [mark, trial["run"], *options, *("" if value is None else f"{value:.3f}" for value in numbers)]


def _short(text: str) -> str:
    """Return a number with four digits, and another value as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
