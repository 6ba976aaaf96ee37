"""What the words of a command sweep over."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override

from advunlearn.config.composer import Composer, value_count
from advunlearn.config.where_known import split_marked
from advunlearn.options import ConfigError

MAX_RUNS = 1000  # of a sweep


@dataclass(frozen=True)
class Swept:
    """The runs that the overrides of a command describe.

    Attributes:
        values: for each key, the overrides that it sweeps over.
        problems: the mistakes in the overrides, one line each.
        marked: the keys of the options that are set only where the parts of a run have them.
    """

    values: list[list[str]]
    problems: list[str]
    marked: set[str]

    def runs(self) -> Iterator[list[str]]:
        """Yield the overrides of every run."""
        return map(list, itertools.product(*self.values))

    def variants(self) -> Iterator[list[str]]:
        """Yield the first run, and one for each further value with the first of the others: a sum, not a product.

        With marked options, which the first of the others may lack, every run.
        """
        return self.runs() if self.marked else variants_of(self.values)


def swept_by(
    here: Composer, words: Sequence[str], problems: Sequence[str], *, multirun: bool = True, search: bool = False
) -> Swept:
    """Return what the words sweep over, and in a sweep an experiment's own words, which typed ones replace.

    In a search, which chooses its runs, of an interval both ends.

    Raises:
        ConfigError: if these are more runs than `ADVUNLEARN_MAX_RUNS` allows, before any of them is made.
    """
    found = list(problems)
    words, marked = split_marked(words)
    typed = [override for override in here.parse(words, found) if not override.is_hydra_override()]
    own: list[Override] = []
    if multirun:
        single_values = [override for override in typed if not override.is_sweep_override()]
        # A mistake in the experiment's own words is found with the runs that they make.
        composed = here.compose(single_values, [])
        params = composed.params if composed is not None else {}
        own = here.parse([f"{key}={values}" for key, values in params.items()], found)
        if not search:
            _refuse_too_many([*own, *typed], found)
            found += [_no_interval(override) for override in [*own, *typed] if override.is_interval_sweep()]
    else:
        found += [_no_sweep(override) for override in typed if override.is_sweep_override()]
        typed = [override for override in typed if not override.is_sweep_override()]
    chosen = {override.get_key_element(): override for override in [*own, *typed]}
    values = [here.values(override, found) for override in chosen.values()]
    return Swept([each for each in values if each], found, marked)


def _no_sweep(override: Override) -> str:
    text = str(override.input_line)
    key, _, value = text.partition("=")
    return (
        f"{text}: several values are a sweep (advunlearn run -m {text}; a list is {key}=[...]; "
        f"a text with a comma is '{key}=\"{value}\"')"
    )


def _no_interval(override: Override) -> str:
    text = str(override.input_line)
    return f"{text}: only a search has intervals (try hydra/sweeper=optuna, or values such as choice(0,1,3))"


def _refuse_too_many(overrides: Sequence[Override], problems: Sequence[str]) -> None:
    """Count the runs of a sweep without making them.

    Raises:
        ConfigError: if they are too many, with the other problems as well.
    """
    most = os.environ.get("ADVUNLEARN_MAX_RUNS", "")
    limit = int(most) if most.isdecimal() else MAX_RUNS
    count = math.prod(value_count(override) for override in overrides)
    if count > limit:
        runs = f"{count:,} runs" if count < math.inf else "an endless number of runs"
        lift = f" (try ADVUNLEARN_MAX_RUNS={count} in the environment)" if count < math.inf else ""
        raise ConfigError([*problems, f"this sweep has {runs}, and at most {limit:,} are allowed{lift}"])


def variants_of(parsed: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the first run, and one for each further value with the first of the others: a sum, not a product."""
    first = [values[0] for values in parsed]
    yield first
    for position, values in enumerate(parsed):
        for value in values[1:]:
            yield [*first[:position], value, *first[position + 1 :]]
