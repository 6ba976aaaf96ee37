"""A comparison of methods: the runs that it needs."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from advunlearn.config.compose import Job, jobs_in
from advunlearn.config.composer import AUDITOR, Composer, composer
from advunlearn.options import ConfigError
from advunlearn.report.summary.methods import EXCESS, FLOOR, NO_OP

DRAWS = 2  # retrained models per seed, besides the one that all methods are compared with
CONTROLS = {
    NO_OP: [f"unlearner={NO_OP}"],
    FLOOR: [f"unlearner={FLOOR}", f"unlearner.draw={','.join(map(str, range(DRAWS)))}"],
    EXCESS: ["unlearner=random_label", "unlearner.lr=0.05", "unlearner.epochs=60"],
}
OWNED = ("unlearner.", "auditor")  # keys that a method may lack
_LACKED = re.compile(r"([\w.]+): (?:no such option|the chosen unlearner has no auditor)")


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison.

    Attributes:
        jobs: the name of a method, and one of its runs.
        left_out: why a method that was not named cannot run, one line each.
    """

    jobs: list[tuple[str, Job]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def comparison_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> Comparison:
    """Return the runs that compare methods; the overrides are those of a sweep.

    `unlearner=a,b` names the methods; without it, all are compared, and the game with every auditor. An option is set
    for those methods that have it. The controls are added: no unlearning, retraining again, and forgetting too much.

    Raises:
        ConfigError: with every mistake in the overrides, one line each.
    """
    apart = any(word.startswith("seeds.") for word in overrides)
    words = _by_key(overrides, {"attack": "[lira,rmia,weight_change]", "seed": "1" if apart else "1,2,3"})
    with composer(config_dir, overrides) as here:
        found = Comparison()
        for jobs in _methods(here, words, found.left_out, auditors="auditor" not in words).values():
            found.jobs.extend((_name(job, jobs), job) for job in jobs)
        shared = [word for key, word in words.items() if key != "unlearner" and not key.startswith(OWNED)]
        for name, control in CONTROLS.items():
            found.jobs.extend((name, job) for job in jobs_in(here, [*control, *shared]))
    return found


def methods_of(overrides: Sequence[str], config_dir: str | Path | None = None) -> dict[str, list[Job]]:
    """Return the runs of each method, one per seed, for tuning: of those that are named, or of all.

    Raises:
        ConfigError: with every mistake in the overrides, one line each.
    """
    words = _by_key(overrides, {"attack": "threshold", "seed": "101,102,103"})
    with composer(config_dir, overrides) as here:
        found = _methods(here, words, [])
    for method, jobs in found.items():
        if len({_name(job, jobs) for job in jobs}) > 1:
            raise ConfigError([f"{method}: tune searches for the options; give one value of each"])
    return found


def _by_key(overrides: Sequence[str], defaults: dict[str, str]) -> dict[str, str]:
    """Return the overrides by their key, and the defaults of the others."""
    given = {word.partition("=")[0]: word for word in overrides}
    return {**{key: f"{key}={value}" for key, value in defaults.items() if key not in given}, **given}


def _methods(
    here: Composer, words: dict[str, str], left_out: list[str], *, auditors: bool = False
) -> dict[str, list[Job]]:
    """Return the runs of each method.

    Args:
        here: the composer.
        words: the overrides by their key; `unlearner` names the methods, by default all but the controls.
        left_out: gets a line for each method that was not named and cannot run.
        auditors: whether a game that was not named is run with every auditor.

    Raises:
        ConfigError: with every mistake in the overrides, one line each.
    """
    every = [method for method in here.options("unlearner") if method not in CONTROLS]
    named = words["unlearner"].partition("=")[2].split(",") if "unlearner" in words else []
    plain = {key: word for key, word in words.items() if key != "unlearner"}
    found: dict[str, list[Job]] = {}
    lacked: list[dict[str, str]] = []
    problems: list[str] = []
    for method in dict.fromkeys(named or every):
        try:
            every_auditor = auditors and not named
            found[method], without = _with_auditors(here, method, plain, every_auditor=every_auditor)
        except ConfigError as error:
            (problems if named else left_out).extend(f"{method}: {problem}" for problem in error.problems)
        else:
            lacked.append(without)
    for key in plain:
        reasons = [each.get(key, "") for each in lacked]
        if lacked and all(reasons):
            hinted = (reason for reason in reasons if "did you mean" in reason)
            problems.append(next(hinted, f"{key}: no such option of any of these methods"))
    if problems:
        raise ConfigError(problems)
    return found


def _with_auditors(
    here: Composer, method: str, words: dict[str, str], *, every_auditor: bool
) -> tuple[list[Job], dict[str, str]]:
    """Return the runs of one method with each auditor that is named, or with every one, and the options that all lack.

    An option such as `auditor.references` is set for those auditors that have it.

    Raises:
        ConfigError: as `_jobs_of`.
    """
    known = words.get("auditor", "").partition("=")[2].split(",")
    if not every_auditor and len(known) < 2:
        return _jobs_of(here, method, words)
    if AUDITOR not in _jobs_of(here, method, {})[0][0].choices:
        return _jobs_of(here, method, words)
    names = here.options("auditor") if every_auditor else known
    each = [_jobs_of(here, method, {**words, "auditor": f"auditor={name}"}) for name in names]
    lacked = {key: reason for key, reason in each[0][1].items() if all(key in without for _, without in each)}
    return [job for jobs, _ in each for job in jobs], lacked


def _jobs_of(here: Composer, method: str, words: dict[str, str]) -> tuple[list[Job], dict[str, str]]:
    """Return the runs of one method, and by the key of each option that it lacks the line that says so.

    Raises:
        ConfigError: for any other mistake.
    """
    lacked: dict[str, str] = {}
    while True:
        try:
            return jobs_in(here, _given(method, words, lacked)), lacked
        except ConfigError as error:
            found = {
                _typed(match[1], words): problem for problem in error.problems if (match := _LACKED.match(problem))
            }
            new = {key: problem for key, problem in found.items() if key.startswith(OWNED) and key in words}
            if not new.keys() - lacked.keys():
                raise
            lacked |= new


def _typed(key: str, words: Container[str]) -> str:
    """Return the key as it was typed: `auditor.x` is short for `unlearner.auditor.x`."""
    return key if key in words else key.removeprefix("unlearner.")


def _given(method: str, words: dict[str, str], lacked: Container[str]) -> list[str]:
    """Return the overrides of the runs of one method."""
    return [f"unlearner={method}", *(word for key, word in words.items() if key not in lacked)]


def _name(job: Job, jobs: Sequence[Job]) -> str:
    """Return the name of a method with its auditor, and with the options in which its runs with this auditor differ.

    Raises:
        ConfigError: if they differ in more than the method and the seeds.
    """
    auditor = job.choices.get(AUDITOR)
    runs = [each.overrides for each in jobs if each.choices.get(AUDITOR) == auditor]
    varying = [word for word in job.overrides if any(word not in other for other in runs)]
    own = [word for word in varying if not word.startswith(("seed=", "seeds.", "auditor"))]
    if wrong := [word for word in own if not word.startswith(OWNED)]:
        raise ConfigError([f"{wrong[0].partition('=')[0]}: a comparison is of one setting; give one value"])
    words = [str(job.choices["unlearner"]), *([f"({auditor})"] if auditor else [])]
    return " ".join([*words, *(word.removeprefix("unlearner.") for word in own)])
