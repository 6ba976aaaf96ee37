"""Training of models by the caller's own function, through the store, in place of a recipe."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from advunlearn.api.parts import check_trained
from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import Dataset as NoDataset
from advunlearn.data.dataset import Pool
from advunlearn.data.examples import Examples
from advunlearn.data.inputs import Batch, mapped, named
from advunlearn.data.splits import Splits
from advunlearn.models.foreign import Forward, own_module, understood
from advunlearn.options import UserError, is_own, located, source_digest
from advunlearn.runtime.seeding import seed_sequence
from advunlearn.storage.artefacts import index_digest
from advunlearn.storage.store import Store
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.fit import place, seeded
from advunlearn.training.policy import Policy
from advunlearn.training.trainer import Trainer

Train = Callable[["Dataset[Any]", int], nn.Module]
"""The caller's training: a dataset of (inputs, label) pairs and a seed to a trained model."""

PARTS = ("retain", "forget", "audit", "selection", "test")

SCHEMA = 1  # raise it when the results of this code change: stored results of the old code are then not reused


@dataclass(frozen=True)
class Rows(Dataset[Any]):
    """Some of the examples, as the caller's training gets them: item i is (inputs, label), without the transform."""

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
    """Train each model by itself: nothing is known of the caller's function."""

    stacks = False  # type: ignore[assignment]

    def try_stack(self) -> bool:
        """Return False."""
        return False

    def warm_up(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class OwnTrainer(Trainer):
    """A trainer that calls the caller's function.

    Attributes:
        own: the function; None without one.
        network: the caller's model, whose copies hold the weights of others.
        forward: as in `unlearn`.
    """

    own: Train | None = None
    network: nn.Module | None = None
    forward: Forward | None = None

    @cached_property
    def policy(self) -> Policy:
        """Return the policy for models about which nothing is known."""
        return OwnPolicy(self)

    @cached_property
    def view(self) -> dict[str, Any]:
        """Return what is known of the caller's own functions and of the model's classes."""
        own = {"transform": self.examples.transform, "forward": self.forward, "train": self.own}
        classes = {type(module) for module in self.network.modules()} if self.network is not None else set()
        return {
            **{name: None if each is None else function_digest(each) for name, each in own.items()},
            "classes": sorted(source_digest(cast("Any", each)) for each in classes),
        }

    @cached_property
    def draws(self) -> bool:
        """Return True: a training of the caller draws from torch's global generators."""
        return True

    def key(self, rows: NDArray[np.int64], stream: str, *index: int) -> dict[str, Any]:
        """Return everything that determines a model, as far as it is known of the caller's function."""
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
        return copy.deepcopy(self.network).cpu()  # type: ignore[union-attr]

    def fitted(
        self, rows: NDArray[np.int64], stream: str, *index: int, checkpoint: Checkpoint | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train a model on these rows by the caller's function; it is not resumed in the middle.

        Raises:
            UserError: in one line, if there is no function, or it fails or returns no model of the same kind.
        """
        if self.own is None:
            raise UserError(f"the {stream} model must be trained: give train=, a function of a dataset and a seed")
        seed = int(seed_sequence(self.settings.seed, f"train/{stream}", *index).generate_state(1)[0])
        dataset = Rows(self.examples.subset(np.sort(rows)))
        with seeded(self.settings, f"train/{stream}", *index):
            try:
                model = self.own(dataset, seed)
            except Exception as error:  # a function of the caller may raise any
                raise UserError(f"train: {located(error)}") from error
        check_trained(model, own_module(cast("nn.Module", self.network)))
        network = place(understood(model, self.pool.classes, self.forward), self.settings).eval()
        return network, {}


def own_trainer(
    experiment: Experiment,
    parts: Mapping[str, Examples],
    network: nn.Module,
    train: Train | None,
    forward: Forward | None,
) -> tuple[OwnTrainer, Splits]:
    """Return the trainer for the caller's parts and function, and the splits that count the parts' examples."""
    examples, splits = _together(parts)
    pool = _pool(examples, int(network.classes))  # type: ignore[arg-type]
    shared = experiment.model, experiment.optimizer, experiment.settings, Store()
    return OwnTrainer(pool, examples, NoDataset(), *shared, own=train, network=network, forward=forward), splits


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
    """Return a pool with the labels and a digest of the inputs, which the examples hold."""
    digest = hashlib.sha256()
    for name, tensor in named(cast("Batch", examples.inputs)).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.cpu().numpy().tobytes())
    labels = examples.labels.cpu().numpy()
    return Pool({}, labels, len(labels), classes, images=examples.images, digest=digest.hexdigest())


def function_digest(function: Callable[..., Any]) -> str:
    """Return a digest of a function: of its code, its module's source, and every value that it uses from outside.

    Anything else, such as an object that is called, a method of one, or a function that uses values that are not plain,
    gets a new digest at each call: its results are not found again.
    """
    parts = _parts(function, set())
    return hashlib.sha256(repr(parts).encode()).hexdigest() if _is_plain(parts) else secrets.token_hex(32)


def _parts(function: Any, seen: set[CodeType]) -> list[Any]:
    """Return everything that a function depends on, as plain data; what is no function is returned as it is."""
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
    """Return what a function's code consists of, with that of the functions inside it."""
    inner = [_code(each) for each in code.co_consts if isinstance(each, CodeType)]
    plain = [each for each in code.co_consts if not isinstance(each, CodeType)]
    return [code.co_code.hex(), repr(plain), list(code.co_names), inner]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.items()))
    return value is None or isinstance(value, (str, int, float, bool, torch.dtype, torch.device))
