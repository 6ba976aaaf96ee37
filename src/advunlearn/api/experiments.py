"""Experiments of the Python interface: parts by name, or objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from advunlearn.api.arguments import ConfigDir, check_config_dir, kind_of
from advunlearn.attacks.attack import Attack
from advunlearn.config.compose import experiment_from
from advunlearn.config.composer import is_readable, quoted
from advunlearn.config.experiment import Experiment, shadow_problems
from advunlearn.options import Component, ConfigError, UserError
from advunlearn.runtime.seeds import Role
from advunlearn.unlearners.unlearner import Unlearner

SeedsOf = Mapping[Role, int | None] | None
Attacks = str | Attack | Sequence[str | Attack]


def with_method(
    method: str | Unlearner, options: dict[str, Any], seed: int, seeds: SeedsOf, device: str, config_dir: ConfigDir
) -> Experiment:
    """Return an experiment with this unlearner; an option that is an object replaces what its default would name.

    Raises:
        ConfigError: for an unknown method or a bad option, one line each.
    """
    if isinstance(method, Unlearner):
        if options:
            raise UserError(f"{', '.join(options)}: give the options to {type(method).__name__}(...) itself")
        return replace(_experiment([], seed, seeds, device, config_dir), unlearner=method)
    if not isinstance(method, str):
        raise UserError(f"method must be the name of an unlearner, such as 'sg', or an object, got {kind_of(method)}")
    parts = {name: value for name, value in options.items() if isinstance(value, Component)}
    plain = {name: value for name, value in options.items() if name not in parts}
    experiment = _experiment([f"unlearner={quoted(method)}", *_overrides(plain)], seed, seeds, device, config_dir)
    unknown = parts.keys() - vars(experiment.unlearner).keys()
    if unknown:
        raise ConfigError([f"unlearner.{name}: no such option" for name in sorted(unknown)])
    unlearner: Any = experiment.unlearner  # a dataclass, which its base class does not tell
    return replace(experiment, unlearner=replace(unlearner, **parts))


def with_attacks(
    attacks: Attacks, words: Sequence[str], seed: int, seeds: SeedsOf, device: str, config_dir: ConfigDir
) -> Experiment:
    """Return an experiment with these attacks, by name and in this order.

    Args:
        attacks: one or several; ours are named by their file, and the caller's own by their class.
        words: further overrides.
        seed: root of all random streams.
        seeds: of parts of the work, by the names of `Seeds`.
        device: to compute on.
        config_dir: a folder with the caller's own parts.

    Raises:
        ConfigError: for an unknown attack.
        UserError: for one that is given twice, and if none is given.
    """
    given = _listed(attacks)
    # Without a name, any attack: it is replaced.
    chosen = ",".join(quoted(each) for each in given if isinstance(each, str)) or "threshold"
    experiment = _experiment([f"attack=[{chosen}]", *words], seed, seeds, device, config_dir)
    found: dict[str, Attack] = {}
    for each in given:
        name = each if isinstance(each, str) else re.split("[./]", each.identity()["part"])[-1]
        if name in found:
            raise UserError(f"attacks: {name} is given twice; give it once")
        found[name] = experiment.attacks[name] if isinstance(each, str) else each
    experiment = replace(experiment, attacks=found)
    if problems := list(shadow_problems(experiment)):
        raise ConfigError(problems)
    return experiment


def _listed(attacks: Any) -> list[str | Attack]:
    """Return the attacks as a list.

    Raises:
        UserError: in one line, if no attack is given, or if one is neither a name nor an object.
    """
    alone = isinstance(attacks, (str, type)) or not isinstance(attacks, Iterable)
    given = [attacks] if alone else list(attacks)
    for each in given or [None]:
        if not isinstance(each, (str, Attack)) or each == "":
            got = "none" if not given or each == "" else kind_of(each)
            raise UserError(f"attacks must be names of attacks, such as 'threshold', or objects, got {got}")
    return given


def _experiment(overrides: Sequence[str], seed: int, seeds: SeedsOf, device: str, config_dir: ConfigDir) -> Experiment:
    check_config_dir(config_dir)
    if not isinstance(seeds, Mapping | None):
        raise UserError(f"seeds must be a dict, such as {{'unlearning': 1}}, got {kind_of(seeds)}")
    parts = [f"seeds.{role}={_word(f'seeds.{role}', value)}" for role, value in (seeds or {}).items()]
    # A recipe is for data of a run. channels_last is for networks that a run has checked; see `trainer_of`.
    words = ["recipe=none", "channels_last=false", *overrides, f"seed={seed}", *parts, f"device={device}"]
    return experiment_from(words, config_dir)


def _overrides(options: dict[str, Any]) -> list[str]:
    return [
        # The auditor is an option with options of its own, typed by its name.
        f"{'' if name == 'auditor' else 'unlearner.'}{name}={_word(name, value)}"
        for name, value in options.items()
    ]


def _word(name: str, value: Any) -> str:
    """Return a value of an option as Hydra's grammar reads it.

    Raises:
        UserError: in one line, if it cannot read such a value.
    """
    if isinstance(value, str):
        return quoted(value)
    word = "null" if value is None else f"{list(value) if isinstance(value, tuple) else value}"
    if isinstance(value, type) or not is_readable(f"{name}={word}"):
        kinds = "a name or an object" if name == "auditor" else "a number, a text, True, False, None or a list"
        raise UserError(f"{name} must be {kinds}, got {kind_of(value)}")
    return word
