"""Shadow originals: trained, unlearned and retrained as the run's own models are, to learn what the unlearner does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from advunlearn.data.by_class import place_in_class
from advunlearn.options import UserError
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.seeding import numpy_stream, seed_sequence
from advunlearn.shadows.model_set import ModelSet
from advunlearn.shadows.outputs import UnlearnedOutputs
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.trainer import Trainer
from advunlearn.training.weights import weights_of

SCHEMA = 1  # raise it when this file's results change: stored models of the old code are then not reused


Unlearn = Callable[[Trainer, nn.Module, Rows, Rows, Checkpoint], nn.Module]


def matched(rows: Rows, others: Rows, labels: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """Return, sorted, as many of the other rows of each class as `rows` has, or all if there are fewer."""
    drawn = rng.permutation(np.sort(others))
    wanted = np.bincount(labels[rows], minlength=labels.max() + 1)
    return np.sort(drawn[place_in_class(labels[drawn]) < wanted[labels[drawn]]])


def half_of(rows: Rows, labels: NDArray[np.int64], index: int, rng: np.random.Generator) -> Rows:
    """Return, sorted, one half of the rows of each class, for an odd index the other half of the same permutation.

    The odd row of a class is in neither.
    """
    drawn = rng.permutation(np.sort(rows))
    own = labels[drawn]
    half = np.bincount(own)[own] // 2
    place = place_in_class(own) - (index % 2) * half
    return np.sort(drawn[(place >= 0) & (place < half)])


@dataclass(frozen=True)
class OriginalRows:
    """The rows that the shadow originals of a run are trained on and forget.

    Original k is trained on half of the rest, R_k, and half of the candidates, F_k, and asked to forget F_k. The
    candidates are the run's forget set and as many test examples of each of its classes; the rest are its retain set
    and, likewise, test examples. So F_k has the run's size and class mix, up to the odd row of a class and as far as
    there are test examples, and is a whole class where the run's is. Originals 2j and 2j + 1 are complementary: they
    share no row, and every candidate is forgotten by one of them and never seen by the other.

    Attributes:
        retain, forget, test: of the run.
        labels: of all rows of the pool.
        seed: of the draws.
    """

    retain: Rows
    forget: Rows
    test: Rows
    labels: NDArray[np.int64]
    seed: int

    @cached_property
    def candidates(self) -> Rows:
        """Return the rows that originals are asked to forget, sorted."""
        return np.sort(np.concatenate([self.forget, self._matched(self.forget, self.test)]))

    @cached_property
    def rest(self) -> Rows:
        """Return the other rows that originals are trained on, sorted."""
        free = np.setdiff1d(self.test, self.candidates)
        return np.sort(np.concatenate([self.retain, self._matched(self.retain, free)]))

    def parts(self, index: int) -> tuple[Rows, Rows]:
        """Return the rows that original `index` keeps and those that it forgets: R_k and F_k.

        Raises:
            ValueError: if there is nothing to forget.
        """
        rng = numpy_stream(self.seed, "ulira", index // 2)
        retain, forget = (half_of(rows, self.labels, index, rng) for rows in (self.rest, self.candidates))
        if len(forget) == 0:
            raise UserError("the forget set and the test examples of its classes are too few for shadow originals")
        return retain, forget

    def _matched(self, rows: Rows, others: Rows) -> Rows:
        return matched(rows, others, self.labels, numpy_stream(self.seed, "ulira/matched"))


@dataclass(frozen=True)
class TrainedOriginals(ModelSet):
    """The shadow originals before they are unlearned, and two models that are trained without each forget set.

    They do not depend on the unlearner: all unlearners share them. The store keeps the weights of the originals.

    Attributes:
        rows: those that each original is trained on and forgets.
        observed: the rows that the models are asked about, sorted.
    """

    rows: OriginalRows
    observed: Rows

    @property
    def kind(self) -> str:
        """Return `shadow_original`; the original of the run itself is a `model`."""
        return "shadow_original"

    @property
    def count(self) -> int:
        """Return how many originals are wanted."""
        return self.options.originals

    def key(self, index: int) -> dict[str, Any]:
        """Return everything that determines original `index`, its retrained models and their outputs."""
        retain, forget = self.rows.parts(index)
        return {
            **self.trainer.key(np.concatenate([retain, forget]), "ulira/original", index),
            "originals_schema": SCHEMA,
            "forget": index_digest(forget),
            "observed": index_digest(self.observed),
            "queries": self.options.queries,
            "stacked": self.rounding,
        }

    def make(self, group: Sequence[int]) -> Iterator[Artefact]:
        """Train and retrain; yield the weights of each original and the outputs of its three networks."""
        checkpoint = self.checkpoint(group[0])
        parts = [self.rows.parts(index) for index in group]
        kept = [retain for retain, _ in parts]
        trained = {"original": [np.concatenate(both) for both in parts], "retrained": kept, "retrained_again": kept}
        fitted = {name: self.fit(rows, f"ulira/{name}", group, checkpoint) for name, rows in trained.items()}
        seconds = checkpoint.spent() / len(group)
        for place in range(len(group)):
            networks = {name: each[place][0] for name, each in fitted.items()}
            logits = {name: self.ask(network) for name, network in networks.items()}
            yield Artefact({"seconds": seconds}, weights_of(networks["original"]), logits)

    def ask(self, network: nn.Module) -> NDArray[np.float32]:
        """Return the logits of a network on the observed rows."""
        return self.trainer.logits(network, self.observed, self.options.queries)


@dataclass(frozen=True)
class OriginalSet(ModelSet):
    """The shadow originals of a run, and what an unlearner made of each.

    Attributes:
        retain, forget, test, population: of the run; the population is held out, and observed as well.
        unlearn: with a trainer whose seed is the original's own, the original, R_k, F_k and a checkpoint: returns the
            unlearned network, and may change the original in place.
        unlearner: everything else that determines the unlearner's result, as plain data.
    """

    retain: Rows
    forget: Rows
    test: Rows
    population: Rows
    unlearn: Unlearn
    unlearner: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Return `shadow_unlearned`; the unlearned model of the run itself is `unlearned`."""
        return "shadow_unlearned"

    @property
    def count(self) -> int:
        """Return how many originals are wanted."""
        return self.options.originals

    @cached_property
    def rows(self) -> OriginalRows:
        """Return the rows that each original is trained on and forgets."""
        trainer = self.trainer
        return OriginalRows(self.retain, self.forget, self.test, trainer.pool.labels, trainer.settings.seed)

    @cached_property
    def observed(self) -> Rows:
        """Return the rows that the models are asked about, sorted."""
        return np.sort(np.concatenate([self.forget, self.test, self.population]))

    @cached_property
    def trained(self) -> TrainedOriginals:
        """Return the originals and their retrained models."""
        return TrainedOriginals(self.trainer, self.options, self.rows, self.observed)

    def key(self, index: int) -> dict[str, Any]:
        """Return everything that determines the unlearned model of original `index` and its outputs."""
        return {**self.trained.key(index), "unlearner": dict(self.unlearner)}

    def train(self) -> None:
        """Train, retrain and unlearn what the store does not hold; unlearners' remarks are logged for the run only."""
        self.trained.train()
        remarks = logging.getLogger("advunlearn.unlearners")
        level = remarks.level
        remarks.setLevel(logging.WARNING)
        try:
            super().train()
        finally:
            remarks.setLevel(level)

    def make(self, group: Sequence[int]) -> Iterator[Artefact]:
        """Unlearn; yield the outputs of each unlearned network, with the seconds."""
        keys = list(map(self.trained.key, group))
        for index in group:
            checkpoint = self.checkpoint(index)
            original = self.trained.one(range(group[0], group[-1] + 1), keys, index)
            own, network = self._own(index), self.trainer.restore(original, "ulira/original")
            checkpoint.begin()
            unlearned = self.unlearn(own, network, *self.rows.parts(index), checkpoint)
            yield Artefact({"seconds": checkpoint.spent()}, {}, {"unlearned": self.trained.ask(unlearned)})

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the outputs of all of them: their part in keys of later results."""
        return {"schema": SCHEMA, "originals": self.count, "stacked": self.rounding, "unlearner": dict(self.unlearner)}

    def observe(self, rows: Rows) -> UnlearnedOutputs:
        """Return the outputs of the models on `rows`, which belong to the forget and the test set."""
        asked, others = (np.searchsorted(self.observed, each) for each in (rows, self.population))
        unlearned = list(self.outputs())
        trained = list(self.trained.outputs())
        logits = {name: np.stack([each.arrays[name][asked] for each in trained]) for name in trained[0].arrays}
        of_unlearned = np.stack([each.arrays["unlearned"] for each in unlearned])
        membership = np.stack([np.isin(rows, self.rows.parts(index)[1]) for index in range(self.count)])
        return UnlearnedOutputs(
            of_unlearned[:, asked],
            membership,
            of_unlearned[:, others],
            **logits,
            seconds=self.cost(unlearned) + self.trained.cost(trained),
        )

    def _own(self, index: int) -> Trainer:
        """Return the trainer with another seed, so that unlearning draws anew for every original."""
        seed = int(seed_sequence(self.trainer.settings.seed, "ulira/unlearn", index).generate_state(1)[0])
        return self.trainer.seeded(seed)
