"""From overrides to an experiment: every mistake found at once, before any work is done."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advunlearn.attacks.attack import Attack
from advunlearn.config.audits import Audits
from advunlearn.config.original import Original, given_problems
from advunlearn.config.part_files import ATTACK, AUDITS, BLOCKS, GROUPS, LOGGER, ORIGINAL, SEEDS
from advunlearn.data.dataset import Dataset
from advunlearn.data.forget.random import Random
from advunlearn.data.forget.scenario import Forget
from advunlearn.data.splits import check_sizes
from advunlearn.loggers.logger import Logger
from advunlearn.loggers.tensorboard import TensorBoard
from advunlearn.models.model import Model, skeleton
from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import Component, ConfigError, OptionError, first_line, is_shipped, located, nearest
from advunlearn.runtime.seeds import Role, Seeds
from advunlearn.runtime.settings import Settings
from advunlearn.shadows.model_set import ShadowOptions
from advunlearn.training.weights_file import weights_digest
from advunlearn.unlearners.unlearner import Unlearner

BASES: dict[str, type[Component]] = {
    "dataset": Dataset,
    "forget": Forget,
    "model": Model,
    "optimizer": Optimizer,
    "unlearner": Unlearner,
}
SHARED = [field.name for field in dataclasses.fields(ShadowOptions)]  # options next to the attacks, for all of them
LOSS = "loss"  # the name of each model's losses in scores.npz, next to the attacks' scores

C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Experiment:
    """A checked config: the parts that a run is composed of, and the same as plain data."""

    settings: Settings
    seeds: Seeds
    audits: Audits
    dataset: Dataset
    forget: Forget
    model: Model
    optimizer: Optimizer
    unlearner: Unlearner
    attacks: dict[str, Attack]
    shadow_options: ShadowOptions
    original: Original
    loggers: dict[str, Logger]
    config: dict[str, Any]

    def seed_of(self, role: Role) -> int:
        """Return the root of the random streams of a part of the run."""
        return self.seeds.of(role, self.settings.seed)

    def separate(self, *roles: Role) -> dict[str, int]:
        """Return the seeds of these parts that differ from that of training, which the models' keys hold."""
        found = {f"seed_{role}": self.seed_of(role) for role in roles}
        return {name: seed for name, seed in found.items() if seed != self.seed_of("training")}

    @property
    def weights_file(self) -> Path | None:
        """Return the file of the original's weights; None if it is trained."""
        return self.original.file or self.model.weights_file()

    @cached_property
    def weights_digest(self) -> str | None:
        """Return the SHA-256 of that file, as it was when it was first asked for."""
        return None if self.weights_file is None else weights_digest(self.weights_file)

    @property
    def needs_shadows(self) -> bool:
        """Return whether an attack uses shadow models."""
        return any(attack.needs_shadows for attack in self.attacks.values())

    @property
    def needs_originals(self) -> bool:
        """Return whether an attack uses shadow originals."""
        return any(attack.needs_originals for attack in self.attacks.values())


def read_experiment(config: DictConfig) -> Experiment:
    """Return the experiment that a composed config describes.

    Raises:
        ConfigError: with every mistake in it, one line each, each starting with the option's full key.
    """
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError([f"{key}{first_line(error)}"]) from error
    plain.pop("hydra", None)
    problems: list[str] = []
    scalars = {key: value for key, value in plain.items() if key not in (*GROUPS, *BLOCKS)}
    settings = _build(Settings, scalars, "", problems)
    seeds = _build(Seeds, plain.get(SEEDS) or {}, SEEDS, problems)
    audits = _build(Audits, plain.get(AUDITS) or {}, AUDITS, problems)
    original = _build(Original, plain.get(ORIGINAL) or {}, ORIGINAL, problems)
    parts = {group: _build_target(base, plain.get(group), group, problems) for group, base in BASES.items()}
    attacks, shadows = _build_attacks(plain.get(ATTACK), problems)
    loggers = _build_loggers(plain.get(LOGGER), problems)
    if not problems:
        # Without problems, none is None.
        whole: dict[str, Any] = {
            **{"settings": settings, "seeds": seeds, "audits": audits, "original": original},
            **parts,
        }
        if whole["settings"].tensorboard:  # the former spelling of logger=tensorboard
            loggers.setdefault("tensorboard", TensorBoard())
        whole["loggers"] = loggers
        experiment = Experiment(attacks=attacks, shadow_options=shadows, config=plain, **whole)
        problems = list(_combinations(experiment))
    if problems:
        raise ConfigError(problems)
    return experiment


def build_dataset(node: Any) -> Dataset | None:
    """Return the dataset that a part of a config describes, None if there is a mistake in it."""
    return _build_target(Dataset, node, "dataset", [])


def _combinations(experiment: Experiment) -> Iterable[str]:
    """Yield what is right by itself and impossible together."""
    try:
        info = experiment.dataset.info()
    except ValueError as error:
        yield f"dataset.{error}"
        return
    except Exception as error:  # a part of the user may raise any, here and below
        yield f"dataset: {located(error)}"
        return
    try:
        yield from check_sizes(info, experiment.dataset, experiment.forget)
    except Exception as error:
        yield f"forget: {located(error)}"
    try:
        transformed = experiment.dataset.imported_transform() is not None
    except ValueError as error:
        yield f"dataset.{error}"
        return
    try:
        if not transformed:  # else the shape is known with the data
            skeleton(experiment.model, info.shape, len(info.classes))
        yield from given_problems(experiment.weights_file, experiment.original, experiment.config)
    except OptionError as error:
        yield from (f"model.{problem.replace('(try ', '(try model.')}" for problem in error.problems)
    except ValueError as error:
        yield f"model: {error}"
    except Exception as error:
        yield f"model: {located(error)}"
    if experiment.unlearner.repeats_training() and experiment.weights_file is not None:
        yield "unlearner repeats the original's training, which is unknown if the original is given (use another one)"
    if experiment.forget.rounds > 1:
        yield from _of_several_rounds(experiment)
    if (changed := experiment.forget.changes) and experiment.weights_file is not None:
        yield f"forget changes {changed} before the original is trained, but the original is given (try forget=random)"
    if experiment.audits.swap:
        yield from _of_swap(experiment)
    if experiment.forget.perturbs and transformed:
        yield "forget takes gradients of images, which a function of your own may not have (try dataset.transform=null)"
    yield from (f"dataset.{problem}" for problem in experiment.dataset.problems(info))
    if experiment.shadow_options.queries > 1 and not info.images:
        yield f"attack.queries must be 1 for inputs that are not images, got {experiment.shadow_options.queries}"
    yield from shadow_problems(experiment)
    if all(attack.needs_original for attack in experiment.attacks.values()):
        names = ",".join(experiment.attacks)
        yield f"attack={names} compares two models, and needs an attack on one beside it (try attack=[lira,{names}])"
    if experiment.shadow_options.shard is not None and not (experiment.needs_shadows or experiment.needs_originals):
        yield f"attack.shard={experiment.shadow_options.shard}: no chosen attack has shadow models (try attack=lira)"
    try:
        experiment.settings.torch_device()
    except ValueError as error:
        yield str(error)


def shadow_problems(experiment: Experiment) -> Iterable[str]:
    """Yield a line if the attacks need shadow models, and there are none."""
    if experiment.needs_shadows and experiment.shadow_options.shadows < 2:
        yield "attack.shadows must be at least 2 for these attacks, got 0 (try attack.shadows=16)"


def _of_several_rounds(experiment: Experiment) -> Iterable[str]:
    """Yield why the forget set cannot be divided into several requests."""
    key = f"forget.rounds={experiment.forget.rounds}"
    if experiment.unlearner.repeats_training():
        yield f"{key}: unlearner repeats the original's training, and a later request starts from another model"
    if experiment.needs_originals:
        yield f"{key}: shadow originals are unlearned in one request (leave out attacks such as ulira)"
    if experiment.original.run is not None:
        yield f"{key}: with original.run, each run is a request (try forget.rounds=1)"


def _of_swap(experiment: Experiment) -> Iterable[str]:
    """Yield why forget and test examples cannot take each other's place."""
    if type(experiment.forget) is not Random:
        yield "audits.swap is for random forget sets: the test set is one as well (try forget=random)"
    if experiment.forget.rounds > 1:
        yield f"audits.swap is for one request, got forget.rounds={experiment.forget.rounds} (try forget.rounds=1)"
    if experiment.weights_file is not None:
        yield "audits.swap trains another original, and the original is given (try audits.swap=false)"


def _build_attacks(node: Any, problems: list[str]) -> tuple[dict[str, Attack], ShadowOptions]:
    if not isinstance(node, Mapping):
        problems.append(f"attack must be one or several attacks, got {node} (try attack=lira)")
        return {}, ShadowOptions()
    if "_target_" in node:
        problems.append("attack: its file must begin with the line `# @package attack.NAME`")
        return {}, ShadowOptions()
    shared = {name: value for name, value in node.items() if name in SHARED}
    shadows = _build(ShadowOptions, shared, ATTACK, problems)
    named = {name: part for name, part in node.items() if name not in SHARED}
    if LOSS in named:
        problems.append(f"attack.{LOSS}: that name is taken by the losses themselves; name your attack otherwise")
    known = [
        *SHARED,
        *(f"{name}.{option}" for name, part in named.items() if isinstance(part, Mapping) for option in part),
    ]
    attacks = {}
    for name, part in named.items():
        if not isinstance(part, Mapping):
            problems.append(f"attack.{name}: no such option{nearest(name, known, 'attack.')}")
        elif (attack := _build_target(Attack, part, f"attack.{name}", problems)) is not None:
            attacks[name] = attack
    if not named:
        problems.append("attack: choose at least one (try attack=lira)")
    return attacks, shadows or ShadowOptions()


def _build_loggers(node: Any, problems: list[str]) -> dict[str, Logger]:
    """Return the loggers by name; none for None or a name that only stands for the choice of none."""
    if not isinstance(node, Mapping):
        if node not in (None, []):
            problems.append(f"logger must be one or several loggers, got {node} (try logger=csv)")
        return {}
    loggers = {}
    for name, part in node.items():
        found = _build_target(Logger, part, f"{LOGGER}.{name}", problems)
        if found is not None and (package := found.missing()) is not None:
            install = f"pip install 'advunlearn[{name}]'" if is_shipped(found) else f"pip install {package}"
            problems.append(f"logger={name}: the package {package} is not installed (try {install})")
        elif found is not None:
            loggers[name] = found
    return loggers


def _build_target(base: type[C], node: Any, key: str, problems: list[str]) -> C | None:
    if not isinstance(node, Mapping) or "_target_" not in node:
        problems.append(f"{key} must name one of its options, got {node} (see: advunlearn list {key})")
        return None
    try:
        module, _, name = str(node["_target_"]).rpartition(".")
        cls = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # importing a user's module may raise any
        problems.append(f"{key}._target_: cannot import {node['_target_']} ({type(error).__name__}: {error})")
        return None
    if not isinstance(cls, type):
        near = nearest(name, vars(sys.modules[module]))
        problems.append(f"{key}._target_: the module {module} has no class {name}{near}")
        return None
    has_options = dataclasses.is_dataclass(cls)
    if not (has_options and issubclass(cls, base)):
        problems.append(f"{key}._target_ must name a dataclass that is a {base.__name__}, got {node['_target_']}")
        return None
    return _build(cls, {name: value for name, value in node.items() if name != "_target_"}, key, problems)


def _build(cls: type[C], options: Mapping[str, Any], key: str, problems: list[str]) -> C | None:
    before = len(problems)
    prefix = f"{key}." if key else ""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in fields:
            known = [*fields, *GROUPS, *BLOCKS] if not key else list(fields)
            existing = f" ({cls.__name__} has {', '.join(fields)})" if key and fields else ""
            problems.append(f"{prefix}{name}: no such option{nearest(name, known, prefix) or existing}")
        elif isinstance(value, Mapping) and typing.get_origin(hints[name]) is not dict:
            values[name] = _build_target(Component, value, f"{prefix}{name}", problems)
        else:
            values[name] = _typed(value, hints[name], f"{prefix}{name}", problems)
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except OptionError as error:
        problems.extend(prefix + problem.replace("(try ", f"(try {prefix}") for problem in error.problems)
    except (TypeError, ValueError) as error:
        problems.append(f"{key}: {error}")
    except Exception as error:  # a part of the user may raise any
        problems.append(f"{key}: {located(error)}")
    return None


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _typed(value: Any, hint: Any, key: str, problems: list[str]) -> Any:
    """Return the value as the type that the option is declared with, by OmegaConf's rules."""
    if hint is Any:
        return value
    converted = _cached_as if isinstance(value, str | int | float | bool | None) else _as
    try:
        return converted(hint, value)
    except (OmegaConfBaseException, OverflowError):
        problems.append(f"{key} must be {describe_type(hint)}, got {value}")
        return None


def _as(hint: Any, value: Any) -> Any:
    node = OmegaConf.structured(_option_class(hint))
    node.value = _with_floats(value) if float in (hint, *typing.get_args(hint)) else value
    return OmegaConf.to_object(node).value  # type: ignore[union-attr]


_cached_as = lru_cache(10_000, typed=True)(_as)  # the runs of a sweep have most values in common


def _with_floats(value: Any) -> Any:
    """Return whole numbers as floats, which OmegaConf 2.4 wants for an option that is a number."""
    if isinstance(value, list):
        return [_with_floats(each) for each in value]
    return float(value) if type(value) is int else value


@cache
def _option_class(hint: Any) -> type:
    return dataclasses.make_dataclass("Option", [("value", hint)])


def describe_type(hint: Any) -> str:
    """Return the type of an option in words, as `a whole number or null`."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is dict:
        return "options by name, such as arguments.width=32"
    if typing.get_origin(hint) is list:
        return {int: "a list of whole numbers", float: "a list of numbers"}.get(parts[0], "a list")
    if type(None) in parts:
        return " or ".join([*(describe_type(part) for part in parts if part is not type(None)), "null"])
    return _WORDS.get(hint, str(hint))
