"""Training of models by the caller's own function, through the store, in place of a recipe."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset as TorchDataset

from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import Dataset, Pool
from advunlearn.data.examples import Examples
from advunlearn.data.inputs import Batch, mapped, named
from advunlearn.data.splits import Splits
from advunlearn.models.foreign import Forward, Understood, own_module, understood
from advunlearn.options import UserError, is_own, located, source_digest
from advunlearn.runtime.seeding import seed_sequence
from advunlearn.storage.artefacts import index_digest
from advunlearn.storage.store import Store
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import place, seeded
from advunlearn.training.policy import Policy
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import tensors_digest

Train = Callable[["TorchDataset[Any]", int], nn.Module]
"""The caller's training: a dataset of (inputs, label) pairs and a seed to a trained model."""

PARTS = ("retain", "forget", "audit", "selection", "test")

SCHEMA = 1  # raise it when the results of this code change: stored results of the old code are then not reused


@dataclass(frozen=True)
class TrainingSet(TorchDataset[Any]):
    """The examples that a model of the caller is trained on: item i is (inputs, label), without `transform`."""

    examples: Examples

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Batch, int]:
        """Return one example; inputs are a tensor, or a dict of them."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        inputs = mapped(lambda each: each[index].cpu(), self.examples.inputs)
        return inputs, int(self.examples.labels[index])


class OwnPolicy(Policy):
    """Train each model by itself, because nothing is known of the caller's function."""

    @property
    def stacks(self) -> bool:
        """Return False."""
        return False

    def try_stack(self) -> bool:
        """Return False."""
        return False

    def warm_up(self) -> None:
        """Do nothing: a first step of the caller's function cannot be taken alone."""


@dataclass(frozen=True, kw_only=True)
class OwnTrainer(Trainer):
    """A trainer whose models are trained by a function of the caller.

    Attributes:
        own: the function; None if the caller gives none, and no model can be trained.
        network: the caller's original model; models from the store are copies of it with other weights.
        forward: as in `unlearn`.
    """

    own: Train | None
    network: nn.Module
    forward: Forward | None

    @cached_property
    def policy(self) -> Policy:
        """Return the policy for models about which nothing is known."""
        return OwnPolicy(self)

    @cached_property
    def view(self) -> dict[str, Any]:
        """Return the digests of the caller's functions and of the source of the model's classes."""
        own = {"transform": self.examples.transform, "forward": self.forward, "train": self.own}
        classes = {type(module) for module in self.network.modules()}
        return {
            **{name: None if each is None else function_digest(each) for name, each in own.items()},
            "classes": sorted(source_digest(cast("Any", each)) for each in classes),
        }

    @cached_property
    def draws(self) -> bool:
        """Return True: the caller's function may draw from torch's global generators."""
        return True

    def key(self, rows: NDArray[np.int64], stream: str, *index: int) -> dict[str, Any]:
        """Return everything that determines a model; see `view` for the caller's functions."""
        return {
            "own_schema": SCHEMA,
            "dataset": self.pool.checksum,
            "view": self.view,
            "rows": index_digest(rows),
            "settings": self.settings.identity(),
            "stream": [stream, *index],
        }

    def built(self, stream: str, *index: int) -> nn.Module:
        """Return a copy of the caller's model on the CPU; its weights are replaced."""
        return copy.deepcopy(self.network).cpu()

    def fitted(
        self, rows: NDArray[np.int64], stream: str, *index: int, checkpoint: Checkpoint | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train a model on these rows by the caller's function. A training that was interrupted starts again.

        Raises:
            UserError: in one line, if there is no function, if it fails, or if it returns a model of another class.
        """
        if self.own is None:
            raise UserError(f"the {stream} model must be trained: give train=, a function of a dataset and a seed")
        seed = int(seed_sequence(self.settings.seed, f"train/{stream}", *index).generate_state(1)[0])
        dataset = TrainingSet(self.examples.subset(np.sort(rows)))
        with seeded(self.settings, f"train/{stream}", *index):
            try:
                model = self.own(dataset, seed)
            except Exception as error:  # a function of the caller may raise any
                raise UserError(f"train: {located(error)}") from error
        _check_trained(model, own_module(self.network))
        network = place(understood(model, self.pool.classes, self.forward), self.settings).eval()
        return network, {}


def own_trainer(
    experiment: Experiment,
    parts: Mapping[str, Examples],
    network: Understood,
    train: Train | None,
    forward: Forward | None,
) -> tuple[OwnTrainer, Splits]:
    """Return the trainer for the caller's parts and function, and the rows of each part among all examples."""
    examples, splits = _together(parts)
    pool = _pool(examples, network.classes)
    settings = replace(experiment.settings, seed=experiment.seed_of("training"))
    shared = experiment.model, experiment.optimizer, settings, Store()
    return OwnTrainer(pool, examples, Dataset(), *shared, own=train, network=network, forward=forward), splits


def _together(parts: Mapping[str, Examples]) -> tuple[Examples, Splits]:
    """Return the parts as one set of examples, in the order of `PARTS`, and the rows of each."""
    rows: dict[str, NDArray[np.int64]] = {}
    start, whole = 0, None
    for name in PARTS:
        count = len(parts[name]) if name in parts else 0
        rows[name] = np.arange(start, start + count)
        start += count
        if name in parts:
            whole = parts[name] if whole is None else whole.followed_by(parts[name])
    assert whole is not None
    return whole, Splits(**rows)


def _pool(examples: Examples, classes: int) -> Pool:
    """Return a pool without inputs, which the examples hold, but with their digest."""
    digest = tensors_digest(named(cast("Batch", examples.inputs)))
    labels = examples.labels.cpu().numpy()
    return Pool({}, labels, len(labels), classes, images=examples.images, digest=digest)


def _check_trained(model: Any, original: nn.Module) -> None:
    """Raise a UserError, in one line, unless the caller's function has returned a model like the original."""
    if not isinstance(model, nn.Module):
        raise UserError(f"train must return a torch.nn.Module, got {type(model).__name__}")
    shapes = [{name: each.shape for name, each in one.state_dict().items()} for one in (model, original)]
    if shapes[0] != shapes[1]:
        raise UserError("train must return a model of the class of original=, with weights of the same shapes")


def function_digest(function: Callable[..., Any]) -> str:
    """Return a digest of a function: of its code, of the source of its module, and of every outer value that it uses.

    An object with `__call__`, a method, and a function that uses an outer value that is not plain data get a new digest
    at each call, so that their results are not reused.
    """
    parts = _parts(function, set())
    return hashlib.sha256(repr(parts).encode()).hexdigest() if _is_plain(parts) else secrets.token_hex(32)


def _parts(function: Any, seen: set[CodeType]) -> list[Any]:
    """Return everything that a function depends on, as plain data; anything but a function is returned as it is."""
    if isinstance(function, functools.partial):
        return [function.args, function.keywords, *_parts(function.func, seen)]
    if not isinstance(function, FunctionType):
        return [function]
    if function.__code__ in seen:
        return []
    seen.add(function.__code__)
    used = inspect.getclosurevars(function)
    values = {**used.globals, **used.nonlocals}
    functions = [each for each in values.values() if isinstance(each, FunctionType) and is_own(each.__module__)]
    shipped = (ModuleType, type, FunctionType, BuiltinFunctionType)
    others = {name: value for name, value in values.items() if not isinstance(value, shipped)}
    own = [source_digest(function), _code(function.__code__), function.__defaults__, function.__kwdefaults__, others]
    return own + [part for each in functions for part in _parts(each, seen)]


def _code(code: CodeType) -> list[Any]:
    """Return the code of a function and of the functions inside it, as plain data."""
    inner = [_code(each) for each in code.co_consts if isinstance(each, CodeType)]
    plain = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return [code.co_code.hex(), repr(plain), list(code.co_names), inner]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.items()))
    return value is None or isinstance(value, (str, int, float, bool, torch.dtype, torch.device))
