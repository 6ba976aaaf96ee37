"""Training of models by the caller's own function, through the store, in place of a recipe."""

from __future__ import annotations

import copy
import functools
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
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
from advunlearn.models.foreign import Forward, understood
from advunlearn.options import UserError, located, source_digest
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
        """Return the caller's own functions between inputs and logits."""
        own = {"transform": self.examples.transform, "forward": self.forward}
        return {name: None if each is None else function_digest(each) for name, each in own.items()}

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
            "train": None if self.own is None else function_digest(self.own),
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
        check_trained(model)
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
    """Return a digest of a function: of its source, of what that imports, and of the values that it closes over.

    A function without a file, such as one typed into a notebook, or one that closes over something other than plain
    values, gets a new digest in every process: its results are not reused later.
    """
    values: list[Any] = []
    while isinstance(function, functools.partial):
        values += [function.args, sorted(function.keywords.items())]
        function = function.func
    closure = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    values += [closure, getattr(function, "__defaults__", None), getattr(function, "__qualname__", "")]
    plain = _is_plain(values)
    known = f"{source_digest(_hashable(function))} {values if plain else _of_process(id(function))}"
    return hashlib.sha256(known.encode()).hexdigest()


def _hashable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, or the class of an object that is called."""
    return function if hasattr(function, "__qualname__") else type(function)


@functools.cache
def _of_process(_: int) -> str:
    return secrets.token_hex(16)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool, torch.dtype, torch.device))
