"""Experiments of the Python interface: parts by name, or objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advunlearn.attacks.attack import Attack
from advunlearn.config.compose import experiment_from
from advunlearn.config.composer import quoted
from advunlearn.config.experiment import Experiment
from advunlearn.options import Component, ConfigError, UserError
from advunlearn.unlearners.unlearner import Unlearner

ConfigDir = str | Path | None
"""A folder with the YAML files of the caller's own parts, which may then be named."""

Attacks = str | Attack | Sequence[str | Attack]


def with_method(
    method: str | Unlearner, options: dict[str, Any], seed: int, device: str, config_dir: ConfigDir
) -> Experiment:
    """Return an experiment with this unlearner; an option that is an object replaces what its default would name.

    Raises:
        ConfigError: for an unknown method or a bad option, one line each.
    """
    if isinstance(method, Unlearner):
        if options:
            raise UserError(f"{', '.join(options)}: give the options to {type(method).__name__}(...) itself")
        return replace(_experiment([], seed, device, config_dir), unlearner=method)
    parts = {name: value for name, value in options.items() if isinstance(value, Component)}
    plain = {name: value for name, value in options.items() if name not in parts}
    experiment = _experiment([f"unlearner={method}", *_overrides(plain)], seed, device, config_dir)
    unknown = parts.keys() - vars(experiment.unlearner).keys()
    if unknown:
        raise ConfigError([f"unlearner.{name}: no such option" for name in sorted(unknown)])
    unlearner: Any = experiment.unlearner  # a dataclass, which its base class does not tell
    return replace(experiment, unlearner=replace(unlearner, **parts))


def with_attacks(attacks: Attacks, words: Sequence[str], seed: int, device: str, config_dir: ConfigDir) -> Experiment:
    """Return an experiment with these attacks, by name and in this order.

    Args:
        attacks: one or several; ours are named by their file, and the caller's own by their class.
        words: further overrides.
        seed: root of all random streams.
        device: to compute on.
        config_dir: a folder with the caller's own parts.

    Raises:
        ConfigError: for an unknown attack.
        UserError: for one that is given twice.
    """
    given = [attacks] if isinstance(attacks, (str, Attack)) else attacks
    names = [each for each in given if isinstance(each, str)]
    chosen = [f"attack=[{','.join(names)}]"] if names else []
    experiment = _experiment([*chosen, *words], seed, device, config_dir)
    found: dict[str, Attack] = {}
    for each in given:
        name = each if isinstance(each, str) else re.split("[./]", each.identity()["part"])[-1]
        if name in found:
            raise UserError(f"attacks: {name} is given twice; give it once")
        found[name] = experiment.attacks[name] if isinstance(each, str) else each
    return replace(experiment, attacks=found)


def _experiment(overrides: Sequence[str], seed: int, device: str, config_dir: ConfigDir) -> Experiment:
    # A recipe is for data of a run. channels_last is for networks that a run has checked; see `trainer_of`.
    words = ["recipe=none", "channels_last=false", *overrides, f"seed={seed}", f"device={device}"]
    return experiment_from(words, config_dir)


def _overrides(options: dict[str, Any]) -> list[str]:
    words = {name: quoted(value) if isinstance(value, str) else value for name, value in options.items()}
    return [
        # The auditor is an option with options of its own, typed by its name.
        f"auditor={value}" if name == "auditor" else f"unlearner.{name}={'null' if value is None else value}"
        for name, value in words.items()
    ]
