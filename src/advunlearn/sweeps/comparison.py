"""A comparison of methods: the runs that it needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
DEFAULTS = {"attack": "[lira,rmia]", "seed": "1,2,3"}
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
    words = {word.partition("=")[0]: word for word in overrides}
    for key, value in DEFAULTS.items():
        words.setdefault(key, f"{key}={value}")
    named = words.pop("unlearner", None)
    with composer(config_dir, overrides) as here:
        every = [method for method in here.options("unlearner") if method not in CONTROLS]
        methods = named.partition("=")[2].split(",") if named else every
        found = Comparison()
        lacked: list[set[str]] = []
        problems: list[str] = []
        for method in dict.fromkeys(methods):
            try:
                jobs, without = _jobs_of(here, method, words)
                if AUDITOR in jobs[0].choices and not named and "auditor" not in words:
                    jobs = jobs_in(
                        here, [*_given(method, words, without), f"auditor={','.join(here.options('auditor'))}"]
                    )
            except ConfigError as error:
                (problems if named else found.left_out).extend(f"{method}: {problem}" for problem in error.problems)
            else:
                lacked.append(without)
                found.jobs.extend((_name(job, jobs), job) for job in jobs)
        nowhere = set.intersection(*lacked) if lacked else set()
        problems += [f"{key}: no such option of any of these methods" for key in sorted(nowhere)]
        if problems:
            raise ConfigError(problems)
        shared = [word for key, word in words.items() if not key.startswith(OWNED)]
        for name, control in CONTROLS.items():
            found.jobs.extend((name, job) for job in jobs_in(here, [*control, *shared]))
    return found


def _jobs_of(here: Composer, method: str, words: dict[str, str]) -> tuple[list[Job], set[str]]:
    """Return the runs of one method, and the keys of the options that it lacks.

    Raises:
        ConfigError: for any other mistake.
    """
    lacked: set[str] = set()
    while True:
        try:
            return jobs_in(here, _given(method, words, lacked)), lacked
        except ConfigError as error:
            keys = {match[1] for problem in error.problems if (match := _LACKED.match(problem))}
            new = {key for key in words if key.startswith(OWNED) and key in keys} - lacked
            if not new:
                raise
            lacked |= new


def _given(method: str, words: dict[str, str], lacked: set[str]) -> list[str]:
    """Return the overrides of the runs of one method."""
    return [f"unlearner={method}", *(word for key, word in words.items() if key not in lacked)]


def _name(job: Job, jobs: Sequence[Job]) -> str:
    """Return the name of a method with its auditor, and with the options in which these runs of it differ.

    Raises:
        ConfigError: if they differ in more than the method and the seed.
    """
    runs = [each.overrides for each in jobs]
    varying = [word for word in job.overrides if any(word not in other for other in runs)]
    own = [word for word in varying if not word.startswith(("seed=", "auditor"))]
    if wrong := [word for word in own if not word.startswith(OWNED)]:
        raise ConfigError([f"{wrong[0].partition('=')[0]}: a comparison is of one setting; give one value"])
    auditor = job.choices.get(AUDITOR)
    words = [str(job.choices["unlearner"]), *([f"({auditor})"] if auditor else [])]
    return " ".join([*words, *(word.removeprefix("unlearner.") for word in own)])
