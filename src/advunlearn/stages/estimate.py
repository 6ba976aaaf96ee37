"""Before the first stage: what a run will train, how much of it is in the store, and how long the rest takes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.dataset import DatasetInfo, Pool
from advunlearn.data.inputs import mapped
from advunlearn.data.splits import Splits
from advunlearn.evaluation.names import MODELS
from advunlearn.models.model import skeleton
from advunlearn.runtime.arrays import Rows
from advunlearn.shadows.model_set import ModelSet, ShadowOptions
from advunlearn.shadows.originals import OriginalSet, TrainedOriginals
from advunlearn.shadows.outputs import ShadowOutputs
from advunlearn.shadows.shadow_set import ShadowSet
from advunlearn.stages.attack import attack_key, attacked_rows
from advunlearn.stages.clock import STREAM, Clock, steps_of
from advunlearn.stages.data import check_memory, split
from advunlearn.stages.memorization import STREAM as MEMORIZATION
from advunlearn.stages.memorization import known_splits, memorization_set, short_trainer
from advunlearn.stages.models import repeat_stream
from advunlearn.stages.original import original_key
from advunlearn.stages.relearning import relearning_key, relearning_trainer
from advunlearn.stages.rounds import request_splits
from advunlearn.stages.shadows import original_references, original_set, shadow_set
from advunlearn.stages.swap import swapped_splits
from advunlearn.stages.unlearn import make_task, reference_set, unlearned_key
from advunlearn.storage.artefacts import Artefact
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.retrain import Retrain

# Seconds, measured on two cores of a server: the pictures and the page, an attack on the three models, and what a
# white-box attack spends on one example beside twice its share of a training step.
REPORT, ATTACK, GRADIENT = 3.0, 0.2, 0.001


@dataclass(frozen=True)
class Line:
    """One kind of work.

    Attributes:
        name, about: the name and a description.
        wanted, held: how many are needed, and how many of them the store holds.
        missing: how many will be made, including those that complete a stack.
        seconds: the time for these; None if unknown.
        models: the set of models, if it is one.
    """

    name: str
    about: str
    wanted: int
    held: int
    missing: int
    seconds: float | None
    models: ShadowSet | TrainedOriginals | OriginalSet | None = None


@dataclass(frozen=True)
class Estimate:
    """The work of a run, and the seconds of a retraining."""

    lines: list[Line]
    retraining: float | None = None

    @property
    def seconds(self) -> float:
        """Return the total seconds, without work of unknown time."""
        return sum(line.seconds or 0.0 for line in self.lines)

    @property
    def unknown(self) -> list[str]:
        """Return the names of the work of unknown time."""
        return [line.name for line in self.lines if line.seconds is None]

    @property
    def unlearning(self) -> float:
        """Return the seconds of unlearning; 0 if it is done or unknown."""
        return sum(line.seconds or 0.0 for line in self.lines if line.name == "unlearning")

    @property
    def ratio(self) -> float:
        """Return unlearning time over retraining time; 0 if it is done or unknown."""
        return self.unlearning / self.retraining if self.retraining else 0.0


class Estimator:
    """Estimate a run; each measurement is shared by all variants of the run."""

    def __init__(self, experiment: Experiment, trainer: Trainer, splits: Splits) -> None:
        self.experiment, self.trainer = experiment, trainer
        self.splits = known_splits(experiment, trainer, splits)
        self.clock = Clock(trainer)

    def estimate(self, options: ShadowOptions | None = None) -> Estimate:
        """Return the estimate of the run, or of one with other shadow models."""
        experiment = self.experiment if options is None else replace(self.experiment, shadow_options=options)
        with self.clock.quiet():
            if experiment.shadow_options.shard is not None:
                return Estimate([*self._memorization(), *self._shadows(experiment)])
            found = self._found(experiment)
            lines = [
                *self._memorization(),
                self._original(),
                self._model("retrained", "the same", self.splits.retain),
                *self._repeats(experiment),
                *(self._references(self._reference_set()) if "unlearned" not in found else ()),
                self._unlearning(found),
                *(self._shadows(experiment) if "attack" not in found else ()),
                self._attacks(experiment, "attack" in found),
                *self._relearning(found),
                *self._swap(),
            ]
            return Estimate(lines, 0.0 if "unlearned" in found else self._seconds(len(self.splits.retain)))

    def _found(self, experiment: Experiment) -> dict[str, Artefact]:
        """Return the run's results in the store; a result is searched only if those before it are found."""
        trainer, splits = self.trainer, self.splits
        found: dict[str, Artefact] = {}
        keys: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
            "original": ("model", lambda: original_key(experiment, trainer, splits)),
            "retrained": ("model", lambda: trainer.key(splits.retain, "retrained")),
            "unlearned": ("unlearned", lambda: self._unlearned_key(found["original"])),
            **{
                name: ("model", partial(trainer.key, splits.retain, repeat_stream(name)))
                for name in experiment.shadow_options.repeats
            },
            "attack": ("attack", lambda: attack_key(experiment, splits, found, self._original_set(experiment))),
        }
        for name, (kind, key) in keys.items():
            artefact = trainer.store.find(kind, key())
            if artefact is None:
                break
            found[name] = artefact
        return found

    def _unlearned_key(self, original: Artefact) -> dict[str, Any]:
        """Return the key of the model after the last request, or of the first one that the store lacks."""
        key, last = {}, original
        for part in request_splits(self.experiment, self.splits, self.trainer.pool.labels):
            references = reference_set(self.experiment, self.trainer, part, part.forget)
            key = unlearned_key(self.experiment, self.trainer, part, last, references)
            if (found := self.trainer.store.find("unlearned", key)) is None:
                break
            last = found
        return key

    def _original_set(self, experiment: Experiment) -> OriginalSet:
        return original_set(experiment, self.trainer, self.splits)

    def _network(self) -> str:
        model, info = self.experiment.model, self.experiment.dataset.info()
        parameters = sum(each.numel() for each in skeleton(model, info.shape, len(info.classes)).parameters())
        return f"{type(model).__name__}, {parameters:,} parameters"

    def _seconds(self, examples: int) -> float:
        """Return the training time of one network in seconds."""
        return self.clock.training.seconds(steps_of(examples, self.trainer))

    def _model(self, name: str, about: str, rows: Rows) -> Line:
        held = self.trainer.store.holds("model", [self.trainer.key(rows, name)])
        about = f"{about}, {len(rows):,} examples, {self.experiment.optimizer.epochs} epochs"
        return Line(name, about, 1, int(held), int(not held), 0.0 if held else self._seconds(len(rows)))

    def _repeats(self, experiment: Experiment) -> Iterator[Line]:
        """Yield the lines of the retrained models beyond the first."""
        for name in experiment.shadow_options.repeats:
            line = self._model(repeat_stream(name), "the same", self.splits.retain)
            yield replace(line, name=f"retrained, {name}")

    def _original(self) -> Line:
        if (given := self.experiment.weights_digest) is None:
            return self._model("original", self._network(), self.splits.train)
        return Line("original", f"{self._network()}, given, SHA-256 {given[:12]}", 1, 1, 0, 0.0)

    def _memorization(self) -> Iterator[Line]:
        """Yield the line of the models that the choice of the forget set needs."""
        train = self.splits.train
        if (models := memorization_set(self.experiment, self.trainer, train)) is not None:
            about = f"models that choose the forget set, {len(models.rows(0)):,} examples each"
            yield self._set("memorization models", about, models, partial(self._shadow_group, models))
        if (short := short_trainer(self.experiment, self.trainer)) is not None:
            held = self.trainer.store.holds("model", [short.key(train, MEMORIZATION)])
            about = f"the model that chooses the forget set, {short.optimizer.epochs} epochs"
            seconds = 0.0 if held else self.clock.training.seconds(steps_of(len(train), short))
            yield Line("memorization proxy", about, 1, int(held), int(not held), seconds)

    def _reference_set(self) -> ShadowSet | None:
        return reference_set(self.experiment, self.trainer, self.splits, self.splits.forget)

    def _references(self, references: ShadowSet | None) -> Iterator[Line]:
        if references is not None:
            about = f"models that the unlearner compares with, {len(references.rows(0)):,} examples each"
            yield self._set("references", about, references, partial(self._shadow_group, references))

    def _shadows(self, experiment: Experiment) -> Iterator[Line]:
        """Yield the lines of the models that attacks use."""
        if experiment.needs_shadows:
            shadows = shadow_set(experiment, self.trainer, self.splits)
            names = ", ".join(name for name, attack in experiment.attacks.items() if attack.needs_shadows)
            about = f"for {names}, {len(shadows.rows(0)):,} examples each"
            yield self._set("shadow models", about, shadows, partial(self._shadow_group, shadows))
        if experiment.needs_originals:
            yield from self._references(original_references(self.experiment, self.trainer, self.splits))
            names = ", ".join(name for name, attack in experiment.attacks.items() if attack.needs_originals)
            originals = self._original_set(experiment)
            about = f"for {names} and any unlearner: each trained, and retrained twice"
            trained = originals.trained
            yield self._set("shadow originals", about, trained, partial(self._original_group, trained))
            group = partial(self._unlearned_group, originals)
            yield self._set("unlearned shadow originals", f"for {names}", originals, group)

    def _set(
        self,
        name: str,
        about: str,
        models: ShadowSet | TrainedOriginals | OriginalSet,
        seconds: Callable[[range, int], float | None],
    ) -> Line:
        """Return the line of a set of models; `seconds` returns the time of a group, of so many at once."""
        number, shards = models.options.part
        groups = list(models.groups())[number - 1 :: shards]
        store = self.trainer.store
        held = {index for group in groups for index in group if store.holds(models.kind, [models.key(index)])}
        missing = [group for group in groups if not held.issuperset(group)]
        policy = self.trainer.policy
        devices = min(len(policy.devices), len(missing))
        at_once = min(policy.workers, len(missing)) if devices < 2 else 1  # on each device
        spent = [seconds(group, at_once) for group in missing]
        return Line(
            name,
            f"{about}, on {devices} GPUs" if devices > 1 else about,
            sum(index < models.count for group in groups for index in group),
            sum(index < models.count for index in held),
            sum(map(len, missing)),
            None if None in spent else makespan([each or 0.0 for each in spent], max(at_once, devices)),
            models,
        )

    def _shadow_group(self, models: ShadowSet, group: range, at_once: int) -> float:
        fitted = self._fit(models, len(models.rows(group[0])), group, at_once)
        return fitted + self._outputs(models.observed, models.options, len(group))

    def _original_group(self, models: TrainedOriginals, group: range, at_once: int) -> float:
        retain, forget = models.rows.parts(group[0])
        trainings = (len(retain) + len(forget), len(retain), len(retain))
        fitted = sum(self._fit(models, examples, group, at_once) for examples in trainings)
        return fitted + self._outputs(models.observed, models.options, 3 * len(group))

    def _unlearned_group(self, models: OriginalSet, group: range, at_once: int) -> float | None:
        unlearned = self._unlearn({}, *models.rows.parts(group[0]), at_once)
        if unlearned is None:
            return None
        return self._outputs(models.observed, models.options, len(group)) + len(group) * unlearned

    def _fit(self, models: ModelSet, examples: int, group: range, at_once: int) -> float:
        return self.clock.together(len(group), steps_of(examples, self.trainer), at_once, stacked=models.stacked)

    def _outputs(self, rows: Rows, options: ShadowOptions, networks: int) -> float:
        """Return the seconds, on one core, of so many networks' outputs on these rows."""
        return networks * options.queries * len(rows) * self.clock.answer * torch.get_num_threads()

    def _unlearning(self, found: dict[str, Artefact]) -> Line:
        about, held = type(self.experiment.unlearner).__name__, "unlearned" in found
        rounds = self.experiment.forget.rounds
        seconds = 0.0 if held else self._unlearn(found, self.splits.retain, self.splits.forget, 0)
        whole = None if seconds is None else rounds * seconds
        return Line("unlearning", about, rounds, rounds * held, rounds * (not held), whole)

    def _unlearn(self, found: dict[str, Artefact], retain: Rows, forget: Rows, at_once: int) -> float | None:
        """Return the seconds of an unlearning, in so many processes at once, or in this one only (0)."""
        unlearner, trainer = self.experiment.unlearner, self.trainer
        if isinstance(unlearner, Retrain):
            steps = steps_of(len(retain), trainer)
            return self.clock.together(1, steps, at_once, stacked=False) if at_once else self._seconds(len(retain))
        task = make_task(trainer, self.splits, retain, forget, None)
        if count := unlearner.reference_models():
            outputs = partial(stand_in_outputs, count, trainer.pool.classes)
            task = replace(task, references=(outputs(len(forget)), outputs(len(self.splits.audit))))

        def network() -> nn.Module:
            return trainer.restore(found["original"], STREAM) if "original" in found else trainer.fresh(STREAM)

        return self.clock.unlearning(unlearner, network, task, at_once)

    def _attacks(self, experiment: Experiment, held: bool) -> Line:
        seconds = 0.0
        if not held:
            rows = np.concatenate(list(vars(self.splits).values()))
            outputs = self._outputs(rows, experiment.shadow_options, 3) / torch.get_num_threads()
            seconds = outputs + ATTACK * len(experiment.attacks) + REPORT + self._white_box(experiment)
        return Line("attacks, report", ", ".join(experiment.attacks), 1, int(held), int(not held), seconds)

    def _swap(self) -> Iterator[Line]:
        """Yield the line of the original that is trained and unlearned once more; unlearning is not counted if held."""
        if not self.experiment.audits.swap:
            return
        swapped = swapped_splits(self.splits, self.trainer.pool.labels, self.experiment.settings.seed).splits
        held = self.trainer.store.holds("model", [self.trainer.key(swapped.train, "original")])
        unlearning = None if held else self._unlearn({}, swapped.retain, swapped.forget, 0)
        seconds = 0.0 if held else None if unlearning is None else self._seconds(len(swapped.train)) + unlearning
        yield Line("swap", "one more original, unlearned", 1, int(held), int(not held), seconds)

    def _relearning(self, found: dict[str, Artefact]) -> Iterator[Line]:
        """Yield the line of the fine-tuning of the three models on the retain set."""
        if self.experiment.audits.relearning == 0:
            return
        trainer, retain = relearning_trainer(self.experiment, self.trainer), self.splits.retain
        keys = [relearning_key(trainer, self.splits, found[name]) for name in MODELS if name in found]
        held = sum(trainer.store.holds("relearning", [key]) for key in keys)
        missing = len(MODELS) - held
        seconds = missing * self.clock.training.seconds(steps_of(len(retain), trainer)) if missing else 0.0
        about = f"fine-tuning on the retain set, {trainer.optimizer.epochs} epochs each"
        yield Line("relearning", about, len(MODELS), held, missing, seconds)

    def _white_box(self, experiment: Experiment) -> float:
        """Return the seconds of the white-box attacks on the three models, as if each took one gradient an example."""
        count = sum(attack.needs_network for attack in experiment.attacks.values())
        if not count:
            return 0.0
        rows, _ = attacked_rows(self.splits, self.trainer.pool.labels)
        return 3 * count * len(rows) * (GRADIENT + 2 * self.clock.example)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return when the last of these tasks ends, longest first, each on the first free worker."""
    ends = [0.0] * max(workers, 1)
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def stand_in_outputs(models: int, classes: int, examples: int) -> ShadowOutputs:
    """Return random outputs instead of those of reference models that are not trained yet."""
    logits = np.random.default_rng(0).normal(size=(models, examples, 1, classes)).astype(np.float32)
    membership = np.add.outer(np.arange(models), np.arange(examples)) % 2 == 0
    return ShadowOutputs(logits, membership, logits[:, :0])


def stand_in_pool(info: DatasetInfo) -> Pool:
    """Return random inputs instead of a dataset that is not downloaded yet; the store has no results for them."""
    count, rng = info.train + info.test, np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> NDArray[Any]:
        if info.images:
            return rng.integers(0, 256, (count, *shape[1:], shape[0]), dtype=np.uint8)
        return rng.integers(0, 2, (count, *shape)) if info.whole_numbers else rng.random((count, *shape), np.float32)

    labels = np.arange(count, dtype=np.int64) % len(info.classes)
    return Pool(mapped(drawn, info.shape), labels, info.train, len(info.classes), info.images)


def before_a_run(experiment: Experiment) -> Estimator:
    """Return the estimator of a run that is not started; nothing is downloaded.

    Raises:
        UserError: if the run would be refused before its first training.
    """
    dataset = experiment.dataset
    check_memory(dataset.info())
    known = dataset.is_here() or experiment.original.run is not None  # whose data is compared
    pool = dataset.load() if known else stand_in_pool(dataset.info())
    return Estimator(*split(experiment, pool))
