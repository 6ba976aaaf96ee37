"""The Python interface: a whole run, or unlearning and auditing of your own model."""

from __future__ import annotations

import copy
import datetime
import logging
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from torch import nn

from advunlearn.attacks.attack import Attack, Observations, Outputs, WhiteBox
from advunlearn.config.compose import experiment_from, hydra_words
from advunlearn.config.composer import quoted
from advunlearn.config.experiment import Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.examples import Examples
from advunlearn.evaluation.comparison import measure_attack
from advunlearn.evaluation.metrics_file import AttackMetrics
from advunlearn.options import Component, ConfigError, UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import clean_state
from advunlearn.stages.attack import score_model, seen_by, split_scores
from advunlearn.stages.own_data import Part, check_model, check_trainable, read_parts
from advunlearn.train import Result, run_experiment
from advunlearn.training.fit import predict
from advunlearn.unlearners.unlearner import Task, Unlearner

logger = logging.getLogger(__name__)


def run(
    overrides: Sequence[str] = (), folder: str | Path | None = None, *, config_dir: str | Path | None = None
) -> Result:
    """Run one experiment, as `advunlearn run` does with the same overrides, and return its result.

    Args:
        overrides: the arguments you would pass to `advunlearn run`.
        folder: where to write; None makes a new one under `outputs/`.
        config_dir: a folder with the YAML files of your own parts, as `--config-dir`.

    Raises:
        ConfigError: with every mistake in the overrides, one line each.
        ValueError: if a stage cannot work with these options.

    Example:
        >>> import advunlearn
        >>> result = advunlearn.run(["attack=threshold", "optimizer.epochs=20", "unlearner.epochs=5"])
        >>> sorted(result.metrics["models"])
        ['original', 'retrained', 'unlearned']
    """
    experiment = experiment_from(overrides, config_dir)
    if folder is None:
        name = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
        folder = Path("outputs") / "api" / name
    config = OmegaConf.create(experiment.config)
    with Manifest(Path(folder), {"overrides": hydra_words(overrides)}, config=config) as manifest:
        return run_experiment(experiment, manifest)


def unlearn(
    model: nn.Module,
    *,
    retain: Part,
    forget: Part,
    audit: Part,
    selection: Part | None = None,
    method: str | Unlearner = "sg",
    seed: int = 0,
    device: str = "auto",
    config_dir: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Return a copy of the model with the forget set's influence removed; the model itself is unchanged.

    Args:
        model: maps inputs (n, ...) to logits (n, classes).
        retain, forget, audit: pairs of inputs (n, ...), as the model takes them, and whole-number labels (n,), tensors
            or arrays: what to keep, what to remove, and held-out examples that were never trained on, for the auditor.
            The sets must be disjoint.
        selection: further held-out examples, on which `keep_epoch="best"` chooses the epoch.
        method: an option of the group `unlearner` (sg, finetune, ...), or an unlearner such as `SG(alpha=3)`.
        seed: root of all random streams.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which is CUDA if it is available.
        config_dir: a folder with the YAML files of your own parts, which `method` and `auditor` may then name.
        options: the options of a method that is given by name, such as `alpha=3, epochs=10, auditor="logistic"`, or
            `auditor=SVM(regularization=0.5)`.

    Raises:
        ConfigError: for an unknown method or a bad option, one line each.
        ValueError: if inputs and labels do not fit together, or the method cannot work on them.

    Example:
        >>> import torch, advunlearn
        >>> inputs, labels = torch.randn(60, 8), torch.arange(60) % 3
        >>> model = torch.nn.Linear(8, 3)
        >>> unlearned = advunlearn.unlearn(
        ...     model,
        ...     retain=(inputs[:30], labels[:30]),
        ...     forget=(inputs[30:45], labels[30:45]),
        ...     audit=(inputs[45:], labels[45:]),
        ...     method="sg",
        ...     epochs=2,
        ... )
        >>> unlearned(inputs).shape
        torch.Size([60, 3])
    """
    experiment = _with_method(method, options, seed, device, config_dir)
    settings = experiment.settings
    with clean_state(seed), settings.switches():
        given = {"retain": retain, "forget": forget, "audit": audit, "selection": selection}
        parts = read_parts(given, settings.torch_device())
        network = copy.deepcopy(model).to(settings.torch_device())
        check_model(network, parts)
        check_trainable(network)
        experiment.unlearner.check({name: part.labels.cpu().numpy() for name, part in parts.items()})
        task = Task(parts["retain"], parts["forget"], parts["audit"], settings, parts.get("selection"))
        unlearned = experiment.unlearner.run(network, task).network
    for part, before in zip(unlearned.modules(), model.modules(), strict=True):
        part.training = before.training
    return unlearned.to(next(model.parameters()).device)


def audit(
    model: nn.Module,
    *,
    forget: Part,
    test: Part,
    retain: Part | None = None,
    population: Part | None = None,
    attacks: str | Attack | Sequence[str | Attack] = ("threshold", "classifier"),
    seed: int = 0,
    device: str = "auto",
    config_dir: str | Path | None = None,
) -> dict[str, AttackMetrics]:
    """Return how well each attack separates forget examples from test examples, which the model was never trained on.

    Each attack's dict is that of a run's `metrics.json`: `auc` with its 95 % interval `auc_low` and `auc_high`,
    `tpr_at_fpr_0.01`, `balanced_accuracy` and the counts that they come from, and under `figures` what else its paper
    reports; see `AttackMetrics`.

    Args:
        model: maps inputs (n, ...) to logits (n, classes).
        forget, test: pairs of inputs (n, ...), as the model takes them, and whole-number labels (n,). As in a run,
            examples are left out until `forget` and `test` have the same classes in the same shares, which is logged;
            `members` and `nonmembers` of the result count the remaining ones.
        retain: training examples that the model keeps, for the attack `mia_efficacy`.
        population: further examples that were never trained on, for the attack `population`, and for thresholds per
            class of `threshold`.
        attacks: options of the group `attack`, or attacks such as `Population(...)`; in the result, ours are named by
            their file, and your own by their class.
        config_dir: a folder with the YAML files of your own parts, which `attacks` may then name.

    Raises:
        ConfigError: for an unknown attack.
        ValueError: for an attack that trains shadow models, which needs a training setup: use `run` for those;
            and for one that compares with examples that are not given.

    Example:
        >>> import torch, advunlearn
        >>> inputs, labels = torch.randn(60, 8), torch.arange(60) % 3
        >>> model = torch.nn.Linear(8, 3)
        >>> found = advunlearn.audit(model, forget=(inputs[:30], labels[:30]), test=(inputs[30:], labels[30:]))
        >>> 0 <= found["threshold"]["auc_low"] <= found["threshold"]["auc"] <= found["threshold"]["auc_high"] <= 1
        True
    """
    chosen = [attacks] if isinstance(attacks, (str, Attack)) else attacks
    experiment = _with_attacks(chosen, seed, device, config_dir)
    untrained = [name for name, attack in experiment.attacks.items() if attack.needs_shadows or attack.needs_originals]
    if untrained:
        raise UserError(
            f"{', '.join(untrained)} trains shadow models, which needs a training setup: use advunlearn.run"
        )
    settings = experiment.settings
    with clean_state(seed), settings.switches():
        given = {"forget": forget, "test": test, "retain": retain, "population": population}
        parts = read_parts(given, settings.torch_device())
        network = copy.deepcopy(model).to(settings.torch_device())
        check_model(network, parts)
        where, others, remark = comparable(*(parts[name].labels.cpu().numpy() for name in ("forget", "test")))
        if remark:
            logger.warning(remark)
        members, nonmembers = parts["forget"].subset(where), parts["test"].subset(others)
        both = members.followed_by(nonmembers)

        def outputs_of(examples: Examples) -> Outputs:
            return Outputs(predict(network, examples).numpy()[:, None], examples.labels.cpu().numpy())

        outputs = outputs_of(both)
        target = Observations(
            outputs.logits,
            outputs.labels,
            members=np.arange(len(both)) < len(members),
            retain=outputs_of(parts["retain"]) if "retain" in parts else None,
            population=outputs_of(parts["population"]) if "population" in parts else None,
            white_box=WhiteBox(network, both),
        )
        _, scores = split_scores(score_model(experiment, target))
        found = {}
        for key, score in scores.items():
            attack = experiment.attacks[key.split("/")[0]]
            figures = attack.figures(seen_by(attack, target)) if key in experiment.attacks else {}
            found[key] = measure_attack(
                score, target.members, seed=seed, cross_fitted=attack.cross_fitted, figures=figures
            )
    return found


def _experiment(overrides: Sequence[str], seed: int, device: str, config_dir: str | Path | None) -> Experiment:
    words = ["recipe=none", *overrides, f"seed={seed}", f"device={device}"]  # no recipe: the data is the caller's
    return experiment_from(words, config_dir)


def _with_method(
    method: str | Unlearner, options: dict[str, Any], seed: int, device: str, config_dir: str | Path | None
) -> Experiment:
    """Return an experiment with this unlearner; an option that is an object replaces what its default would name."""
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


def _with_attacks(attacks: Sequence[str | Attack], seed: int, device: str, config_dir: str | Path | None) -> Experiment:
    """Return an experiment with these attacks, by name and in this order."""
    names = [each for each in attacks if isinstance(each, str)]
    experiment = _experiment([f"attack=[{','.join(names)}]"] if names else [], seed, device, config_dir)
    chosen: dict[str, Attack] = {}
    for each in attacks:
        name = each if isinstance(each, str) else re.split("[./]", each.identity()["part"])[-1]
        if name in chosen:
            raise UserError(f"attacks: {name} is given twice; audit with one of them at a time")
        chosen[name] = experiment.attacks[name] if isinstance(each, str) else each
    return replace(experiment, attacks=chosen)


def _overrides(options: dict[str, Any]) -> list[str]:
    words = {name: quoted(value) if isinstance(value, str) else value for name, value in options.items()}
    return [
        # The auditor is an option with options of its own, typed by its name.
        f"auditor={value}" if name == "auditor" else f"unlearner.{name}={'null' if value is None else value}"
        for name, value in words.items()
    ]
