"""One run, from the data to the report: pretrain, retrain, unlearn, attack, evaluate.

Each stage is a function of a part of the config and of what earlier stages made. Its result is kept in the store, so
that a second run does only what is new.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from advunlearn import __version__, finished
from advunlearn.attacks.attack import STDERR, Answers, Attack, Observations
from advunlearn.attacks.statistics import cross_entropy
from advunlearn.config import LOSS, Experiment
from advunlearn.data.examples import examples_of
from advunlearn.data.splits import Splits, make_splits
from advunlearn.evaluation.comparison import MODELS, accuracy, gap, measure, measure_algorithm
from advunlearn.manifest import Manifest, Stage
from advunlearn.report.page import write_report
from advunlearn.report.tensorboard import write_events
from advunlearn.seeding import clean_state, numpy_stream
from advunlearn.store import Artefact, Store, atomic_write, index_digest, write_json
from advunlearn.training.checkpoint import Checkpoint
from advunlearn.training.originals import OriginalSet, UnlearnedShadows
from advunlearn.training.shadows import ShadowOptions, Shadows, ShadowSet, shadow_pool
from advunlearn.training.trainer import Trainer
from advunlearn.unlearners.unlearner import Task
from advunlearn.upkeep import warn_of_little_room

logger = logging.getLogger(__name__)

# Raise one when the results of its stage's code change: what the old code left in the store is then not reused.
UNLEARN_SCHEMA = 4
ATTACK_SCHEMA = 5
PICTURES_SCHEMA = 2
ALGORITHM = "algorithm"  # what attacks find of the unlearner, beside what they find of each model


@dataclass(frozen=True)
class Result:
    """What a run returns: its folder, the contents of `metrics.json`, and the unlearned network in evaluation mode.

    A run that only trains a shard of the shadow models has neither metrics nor a network, and one that took over
    another's files has no network.
    """

    folder: Path
    metrics: dict[str, Any]
    network: nn.Module | None


@dataclass(frozen=True)
class Models:
    """The three models of a run by name, the artefacts that they were read from, and those that unlearning used."""

    networks: dict[str, nn.Module]
    artefacts: dict[str, Artefact]
    references: ShadowSet | None

    @property
    def requests(self) -> int:
        """Return how many requests to forget the store knows that share these reference models, this one included."""
        if self.references is None:
            return 0
        shared = self.references.key(0)
        keys = self.references.trainer.store.keys("unlearned")
        same = [key for key in keys if key.get("references") == shared]
        return len({key["forget"] for key in same})


def run_experiment(experiment: Experiment, manifest: Manifest, *, adopt: bool = False) -> Result:
    """Run an experiment in the folder of its manifest, which is entered, from wherever an earlier attempt ended.

    Args:
        experiment: what to run.
        manifest: of the run's folder.
        adopt: take over the files of a finished run of the same config and data, if one is still there; the result then
            has no network.

    Raises:
        ValueError: in one line, if the data cannot be had or a stage cannot work with these options.
    """
    settings, folder = experiment.settings, manifest.folder
    with clean_state(settings.seed):
        manifest.computes(settings.torch_device(), settings.seed)
        warn_of_little_room(Store())
        with atomic_write(folder / "config.yaml") as temporary:
            OmegaConf.save(OmegaConf.create(experiment.config), temporary)
        trainer, splits = prepare(experiment, manifest)
        if experiment.shadow_options.shard is not None:
            with manifest.stage("shadows"):
                if experiment.needs_shadows:
                    shadow_set(trainer, splits, experiment.shadow_options).train()
                if experiment.needs_originals:
                    original_set(experiment, trainer, splits).train()
            return Result(folder, {}, None)
        key = run_key(experiment, trainer, splits)
        if adopt and (earlier := finished.find(trainer.store, key)) is not None:
            logger.info("the same run is finished in %s and not done again", earlier)
            metrics = finished.adopt(manifest, earlier)
            if settings.tensorboard:
                write_events(folder, metrics)
            return Result(folder, metrics, None)
        models = make_models(experiment, trainer, splits, manifest)
        evidence = attack_models(experiment, trainer, splits, models, manifest)
        metrics = evaluate(experiment, splits, models, evidence)
        write_results(manifest, trainer, models, evidence, metrics)
        finished.note(trainer.store, key, folder)
    return Result(folder, metrics, models.networks["unlearned"])


def run_key(experiment: Experiment, trainer: Trainer, splits: Splits) -> dict[str, Any]:
    """Return everything that determines a run's results, as plain data."""
    return {
        "version": __version__,
        "schemas": [UNLEARN_SCHEMA, ATTACK_SCHEMA, PICTURES_SCHEMA],
        "original": trainer.key(splits.train, "original"),
        "splits": {part: index_digest(rows) for part, rows in vars(splits).items()},
        "unlearner": experiment.unlearner.resolved(),
        "attacks": {name: attack.resolved() for name, attack in experiment.attacks.items()},
        "shadows": {**experiment.shadow_options.identity(), "originals": experiment.shadow_options.originals},
    }


def prepare(experiment: Experiment, manifest: Manifest) -> tuple[Trainer, Splits]:
    """Load the data, put it on the device and split it; the splits are written to the run's folder."""
    settings = experiment.settings
    with manifest.stage("data"):
        pool = experiment.dataset.load()
        splits = make_splits(pool, experiment.dataset, experiment.forget, settings.seed)
        _, members = attacked_rows(splits, pool.labels)
        for attack in experiment.attacks.values():
            attack.check(members)
        splits.save(manifest.folder / "splits.npz")
        manifest.data["splits"] = {part: len(rows) for part, rows in vars(splits).items()}
        manifest.data["dataset_checksum"] = pool.checksum
        examples = examples_of(pool, experiment.dataset, settings.torch_device(), channels_last=settings.channels_last)
    trainer = Trainer(pool, examples, experiment.dataset, experiment.model, experiment.optimizer, settings, Store())
    trainer.choose_threads()
    manifest.data["threads"] = torch.get_num_threads()
    return trainer, splits


def make_models(experiment: Experiment, trainer: Trainer, splits: Splits, manifest: Manifest) -> Models:
    """Train the original and the retrained model, and unlearn the forget set from the original."""
    models = Models({}, {}, reference_set(experiment, trainer, splits, splits.forget))

    def keep(name: str, stage: Stage, network: nn.Module, artefact: Artefact) -> None:
        models.networks[name], models.artefacts[name] = network, artefact
        stage.note(reused=artefact.reused, artefact=artefact.digest)

    with manifest.stage("pretrain") as stage:
        keep("original", stage, *trainer.train(splits.train, "original"))
    with manifest.stage("retrain") as stage:
        keep("retrained", stage, *trainer.train(splits.retain, "retrained"))
    with manifest.stage("unlearn") as stage:
        keep("unlearned", stage, *unlearn(experiment, trainer, splits, models))
    manifest.data["reference_requests"] = models.requests
    return models


def reference_set(
    experiment: Experiment, trainer: Trainer, splits: Splits, forget: NDArray[np.int64]
) -> ShadowSet | None:
    """Return the models that the unlearner compares with, on random halves of the training and the audit examples.

    They do not depend on what is to be forgotten, but for examples of `forget` that the original was not trained on:
    the store has them once, for every request. Most unlearners ask for none.
    """
    count = experiment.unlearner.reference_models()
    if count == 0:
        return None
    pool = shadow_pool(splits.train, splits.audit, trainer.settings.seed, "reference")
    observed = np.unique(np.concatenate([splits.train, splits.audit, forget]))
    return ShadowSet(trainer, ShadowOptions(count), pool, observed, "reference")


def make_task(
    trainer: Trainer,
    splits: Splits,
    retain: NDArray[np.int64],
    forget: NDArray[np.int64],
    references: ShadowSet | None,
    checkpoint: Checkpoint | None = None,
) -> Task:
    """Return the request to forget some rows of what a model was trained on and to keep the others."""
    examples = trainer.examples
    return Task(
        retain=examples.subset(retain),
        forget=examples.subset(forget),
        audit=examples.subset(splits.audit),
        settings=trainer.settings,
        selection=examples.subset(splits.selection),
        retrain=lambda stream: trainer.fitted(retain, stream, checkpoint=checkpoint)[0],
        references=(references.observe(forget), references.observe(splits.audit)) if references else None,
        checkpoint=checkpoint,
    )


def unlearn(experiment: Experiment, trainer: Trainer, splits: Splits, models: Models) -> tuple[nn.Module, Artefact]:
    """Return the unlearned network, from the store if it is there; its artefact's record holds the game's trace."""
    original, references = models.artefacts["original"], models.references

    key = {
        "schema": UNLEARN_SCHEMA,
        "original": trainer.key(splits.train, "original"),
        "weights": original.content,
        "forget": index_digest(splits.forget),
        "audit": index_digest(splits.audit),
        "selection": index_digest(splits.selection),
        "unlearner": experiment.unlearner.resolved(),
        "references": references.key(0) if references else None,
    }

    def make() -> Artefact:
        task = make_task(
            trainer, splits, splits.retain, splits.forget, references, trainer.checkpoint("unlearned", key)
        )

        def run() -> tuple[nn.Module, dict[str, Any]]:
            unlearned = experiment.unlearner.run(trainer.restore(original, "original"), task)
            spent = task.references[0].seconds if task.references else 0.0
            return unlearned.network, {"trace": unlearned.trace, "reference_seconds": spent}

        return trainer.timed(run)

    artefact = trainer.store.get_or_make("unlearned", key, make)
    return trainer.restore(artefact, "original"), artefact


def attack_models(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest
) -> Evidence:
    """Run every attack on the three models, with the same shadow models, through the store."""
    labels = trainer.pool.labels
    rows, members = attacked_rows(splits, labels)
    options = experiment.shadow_options
    set_of_shadows = shadow_set(trainer, splits, options)
    originals = original_set(experiment, trainer, splits)
    observed = set_of_shadows.observed

    def make() -> Artefact:
        shadows = set_of_shadows.observe(rows, splits.selection) if experiment.needs_shadows else None
        unlearned = originals.observe(rows) if experiment.needs_originals else None
        start = time.perf_counter()
        arrays: dict[str, NDArray[Any]] = {}
        accuracies, figures = {}, {}
        for name, network in models.networks.items():
            logits = trainer.logits(network, observed, options.queries)

            def answers(where: NDArray[np.int64], logits: NDArray[np.float32] = logits) -> Answers:
                return Answers(logits[np.searchsorted(observed, where)], labels[where])

            parts = {"retain": splits.retain, "forget": splits.forget, "test": splits.test}
            accuracies[name] = {
                part: accuracy(answers(where).logits[:, 0], labels[where]) for part, where in parts.items()
            }
            said = answers(rows)
            target = Observations(
                said.logits, said.labels, members, retain=answers(splits.retain), population=answers(splits.selection)
            )
            scores = score_model(experiment, target, shadows, unlearned)
            arrays |= {f"{name}/{key}": score for key, score in scores.items()}
            figures[name] = {key: attack.figures(target) for key, attack in experiment.attacks.items()}
        if unlearned is not None:
            arrays |= audit_algorithm(experiment, unlearned, labels[rows])
        trained = sum(each.seconds for each in (shadows, unlearned) if each is not None)
        seconds = {"shadows": trained, "attack": time.perf_counter() - start}
        return Artefact({"accuracy": accuracies, "figures": figures, "seconds": seconds}, {}, arrays)

    key = {
        "schema": ATTACK_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.artefacts.items()},
        "test": index_digest(splits.test),
        "attacks": {name: attack.resolved() for name, attack in experiment.attacks.items()},
        "shadows": options.identity() if experiment.needs_shadows else None,
        "originals": originals.identity() if experiment.needs_originals else None,
        "queries": options.queries,
    }
    with manifest.stage("attack") as stage:
        artefact = trainer.store.get_or_make("attack", key, make)
        stage.note(
            reused=artefact.reused,
            artefact=artefact.digest,
            shadows=options.shadows * experiment.needs_shadows,
            originals=options.originals * experiment.needs_originals,
        )
    return Evidence(rows, members, artefact)


def shadow_set(trainer: Trainer, splits: Splits, options: ShadowOptions) -> ShadowSet:
    """Return the shadow models of a run; they are asked about every row that an attack may want."""
    pool = shadow_pool(splits.train, splits.test, trainer.settings.seed)
    observed = np.sort(np.concatenate([splits.train, splits.test, splits.selection]))
    return ShadowSet(trainer, options, pool, observed)


def original_set(experiment: Experiment, trainer: Trainer, splits: Splits) -> OriginalSet:
    """Return the shadow originals of a run, which are unlearned as its own original is."""

    references = reference_set(experiment, trainer, splits, splits.test)

    def unlearn(
        trainer: Trainer,
        network: nn.Module,
        retain: NDArray[np.int64],
        forget: NDArray[np.int64],
        checkpoint: Checkpoint,
    ) -> nn.Module:
        task = make_task(trainer, splits, retain, forget, references, checkpoint)
        return experiment.unlearner.run(network, task).network

    identity = {
        "schema": UNLEARN_SCHEMA,
        "audit": index_digest(splits.audit),
        "selection": index_digest(splits.selection),
        "unlearner": experiment.unlearner.resolved(),
        "references": references.key(0) if references else None,
    }
    return OriginalSet(
        trainer,
        experiment.shadow_options,
        retain=splits.retain,
        forget=splits.forget,
        test=splits.test,
        population=splits.selection,
        unlearn=unlearn,
        unlearner=identity,
    )


def attacked_rows(splits: Splits, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows that attacks tell apart, and which are members: the forget set, and the test examples of its
    classes.

    Test examples of other classes would be told apart by their class alone where a whole class is forgotten.
    """
    same_class = splits.test[np.isin(labels[splits.test], labels[splits.forget])]
    if len(same_class) == 0:
        raise ValueError("the test set holds no example of the forget set's classes, so no attack can be run")
    rows = np.concatenate([splits.forget, same_class])
    return rows, np.arange(len(rows)) < len(splits.forget)


def score_model(
    experiment: Experiment,
    target: Observations,
    shadows: Shadows | None = None,
    unlearned: UnlearnedShadows | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return the losses of one model and every attack's member scores and standard errors, (n,) each, by name."""
    arrays = {LOSS: cross_entropy(target.logits[:, 0], target.labels)}
    for name, attack in experiment.attacks.items():
        rng = numpy_stream(experiment.settings.seed, f"attack/{name}")
        models = unlearned if attack.needs_originals else shadows
        for variant, score in attack.score(target, models, rng).items():
            if models is not None and (attack.needs_shadows or attack.needs_originals):
                # What no model was drawn from is OUT of twice as many: estimated better, so told apart by that alone.
                score = np.where(models.membership.any(0), score, np.nan)
            arrays[f"{name}/{variant}" if variant else name] = score
    return arrays


def audit_algorithm(
    experiment: Experiment, unlearned: UnlearnedShadows, labels: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return what every attack finds of the unlearner, by `algorithm/attack/question/model`; see `Attack.audit`."""
    return {
        f"{ALGORITHM}/{name}/{question}/{model}": ratios
        for name, attack in experiment.attacks.items()
        if attack.needs_originals
        for question, found in attack.audit(unlearned, labels).items()
        for model, ratios in found.items()
    }


def split_scores(
    arrays: dict[str, NDArray[np.float64]],
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the losses and the member scores among what `score_model` returns, without their standard errors."""
    scores = {name: array for name, array in arrays.items() if name != LOSS and not name.endswith(f"/{STDERR}")}
    return arrays[LOSS], scores


@dataclass(frozen=True)
class Evidence:
    """What the attacks found: the rows told apart, which of them are members, and the artefact of losses and scores."""

    rows: NDArray[np.int64]
    members: NDArray[np.bool_]
    artefact: Artefact

    def of(self, model: str) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
        """Return one model's losses and, by attack, its member scores."""
        prefix = f"{model}/"
        arrays = {
            name.removeprefix(prefix): array for name, array in self.artefact.arrays.items() if name.startswith(prefix)
        }
        return split_scores(arrays)

    def of_algorithm(self) -> Iterator[tuple[str, str, str, NDArray[np.float64]]]:
        """Yield what attacks found of the unlearner: attack, question, model and scores (2, k, n)."""
        for name, array in self.artefact.arrays.items():
            if name.startswith(f"{ALGORITHM}/"):
                _, attack, question, model = name.split("/")
                yield attack, question, model, array


def evaluate(experiment: Experiment, splits: Splits, models: Models, evidence: Evidence) -> dict[str, Any]:
    """Return the contents of `metrics.json`: three models side by side, and two of them held against the retrained."""
    record = evidence.artefact.record
    examples = {"retain": len(splits.retain), "forget": len(splits.forget), "test": len(splits.test)}
    measured = {}
    for name in MODELS:
        losses, scores = evidence.of(name)
        attacks = {key: experiment.attacks[key.split("/")[0]] for key in scores}
        measured[name] = measure(
            record["accuracy"][name],
            examples,
            losses,
            scores,
            evidence.members,
            {key: models_behind(attack, experiment.shadow_options) for key, attack in attacks.items()},
            {key for key, attack in attacks.items() if attack.cross_fitted},
            record["figures"][name],
            seed=experiment.settings.seed,
        )
    algorithm: dict[str, Any] = {}
    for attack, question, model, ratios in evidence.of_algorithm():
        found = measure_algorithm(ratios, seed=experiment.settings.seed)
        algorithm.setdefault(attack, {}).setdefault(question, {})[model] = found
    stages = zip(("pretrain", "retrain", "unlearn"), MODELS, strict=True)
    seconds = {stage: models.artefacts[name].record["seconds"] for stage, name in stages}
    if models.references is not None:
        seconds["references"] = models.artefacts["unlearned"].record["reference_seconds"]
    return {
        "schema": 1,
        "models": measured,
        "gap": {name: gap(measured[name], measured["retrained"]) for name in ("original", "unlearned")},
        "algorithm": algorithm,
        "seconds": seconds | record["seconds"],
        "unlearning_over_retraining": seconds["unlearn"] / seconds["retrain"],
        "references_over_retraining": seconds.get("references", 0.0) / seconds["retrain"],
        "trace": models.artefacts["unlearned"].record["trace"],
    }


def models_behind(attack: Attack, options: ShadowOptions) -> int:
    """Return how many shadow models, or shadow originals, an attack compares with."""
    return options.originals if attack.needs_originals else options.shadows * attack.needs_shadows


def write_results(
    manifest: Manifest, trainer: Trainer, models: Models, evidence: Evidence, metrics: dict[str, Any]
) -> None:
    """Write metrics, per-example scores, the unlearned weights and the report into the run's folder."""
    folder = manifest.folder
    rows = evidence.rows
    scores = {"rows": rows, "member": evidence.members, "label": trainer.pool.labels[rows], **evidence.artefact.arrays}
    write_json(folder / "metrics.json", metrics)
    with atomic_write(folder / "scores.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, **scores)  # type: ignore[arg-type]
    with atomic_write(folder / "unlearned.safetensors") as temporary:
        save_file(models.artefacts["unlearned"].tensors, temporary)
    manifest.checksum("metrics.json", "scores.npz", "splits.npz", "unlearned.safetensors")
    if trainer.settings.tensorboard:
        write_events(folder, metrics)
    with manifest.stage("report") as stage:
        pictures = draw_pictures(trainer.store, models, evidence, metrics, scores)
        stage.note(reused=pictures.reused, artefact=pictures.digest)
        write_report(folder, {name: picture.tobytes() for name, picture in pictures.arrays.items()})


def draw_pictures(
    store: Store,
    models: Models,
    evidence: Evidence,
    metrics: dict[str, Any],
    scores: dict[str, NDArray[Any]],
) -> Artefact:
    """Return the report's pictures, PNGs by name as arrays of bytes, from the store if they are there."""

    def make() -> Artefact:
        from advunlearn.report.figures import draw  # matplotlib takes a second to import

        pictures = draw(metrics, scores)
        return Artefact({}, {}, {name: np.frombuffer(picture, np.uint8) for name, picture in pictures.items()})

    key = {
        "schema": PICTURES_SCHEMA,
        "attack": [evidence.artefact.digest, evidence.artefact.content],
        "unlearned": [models.artefacts["unlearned"].digest, models.artefacts["unlearned"].content],
    }
    return store.get_or_make("pictures", key, make)
