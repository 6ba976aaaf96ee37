"""Stage `attack`: every attack on the three models, and its scores."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import STDERR, Attack, Observations, Outputs, WhiteBox
from advunlearn.attacks.statistics import cross_entropy
from advunlearn.config.experiment import LOSS, Experiment
from advunlearn.data.comparable import comparable
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import accuracy
from advunlearn.evaluation.names import ModelName
from advunlearn.evaluation.operating import FPR
from advunlearn.options import UserError
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.shadows.memorization import known_mean, memorization
from advunlearn.shadows.originals import OriginalSet
from advunlearn.shadows.outputs import ShadowOutputs, UnlearnedOutputs
from advunlearn.stages.shadows import original_set, shadow_set
from advunlearn.stages.thresholds import shadow_thresholds
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.fit import Diverged, too_large
from advunlearn.training.trainer import Trainer

logger = logging.getLogger(__name__)

ATTACK_SCHEMA = 7  # raise it when the results of this code change, as that of stage `unlearn`
ALGORITHM = "algorithm"  # the prefix of attacks on the unlearner, in contrast to those on a model


@dataclass(frozen=True)
class Evidence:
    """The results of the attacks: the attacked rows, which of them are members, and the losses and scores."""

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

    def of_algorithm(self) -> Iterator[tuple[str, str, ModelName, NDArray[np.float64]]]:
        """Yield the results of attacks on the unlearner: attack, question, model and scores (2, k, n)."""
        for name, array in self.artefact.arrays.items():
            if name.startswith(f"{ALGORITHM}/"):
                _, attack, question, model = name.split("/")
                yield attack, question, cast("ModelName", model), array


def attack_models(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest
) -> Evidence:
    """Run every attack on the three models, with the same shadow models, through the store."""
    labels = trainer.pool.labels
    rows, members = attacked_rows(splits, labels)
    options = experiment.shadow_options
    set_of_shadows = shadow_set(experiment, trainer, splits)
    originals = original_set(experiment, trainer, splits)
    observed = set_of_shadows.observed

    def to_lower(model: str) -> str:
        return (
            experiment.unlearner.too_large() if model == "unlearned" else too_large(experiment.optimizer, "optimizer")
        )

    def make() -> Artefact:
        shadows = set_of_shadows.observe(rows, splits.selection) if experiment.needs_shadows else None
        unlearned = originals.observe(rows) if experiment.needs_originals else None
        start = time.perf_counter()
        arrays: dict[str, NDArray[Any]] = {}
        accuracies, figures, true_label = {}, {}, {}
        for name, network in models.networks.items():
            logits = trainer.logits(network, observed, options.queries)
            if not (logits < np.inf).all():
                raise Diverged(f"the {name} model has diverged: some of its logits are not finite; {to_lower(name)}")

            def outputs_of(where: NDArray[np.int64], logits: NDArray[np.float32] = logits) -> Outputs:
                return Outputs(logits[np.searchsorted(observed, where)], labels[where])

            parts = {"retain": splits.retain, "forget": splits.forget, "test": splits.test}
            accuracies[name] = {
                part: accuracy(outputs_of(where).logits[:, 0], labels[where]) for part, where in parts.items()
            }
            if trainer.pool.true_labels is not None:
                forgotten = outputs_of(splits.forget).logits[:, 0]
                true_label[name] = accuracy(forgotten, trainer.pool.true_labels[splits.forget])
            attacked = outputs_of(rows)
            target = Observations(
                attacked.logits,
                attacked.labels,
                members,
                retain=outputs_of(splits.retain),
                population=outputs_of(splits.selection) if len(splits.selection) else None,
                white_box=WhiteBox(network, trainer.examples.subset(rows), models.networks["original"]),
            )
            scores, figures[name] = score_model(experiment, target, shadows, unlearned)
            arrays |= {f"{name}/{key}": score for key, score in scores.items()}
        if unlearned is not None:
            arrays |= audit_algorithm(experiment, unlearned, labels[rows])
        trained = sum(each.seconds for each in (shadows, unlearned) if each is not None)
        seconds = {"shadows": trained, "attack": time.perf_counter() - start}
        record: dict[str, Any] = {"accuracy": accuracies, "figures": figures, "seconds": seconds}
        if true_label:
            record["true_label"] = true_label
        if thresholds := shadow_thresholds(experiment, labels[rows], labels[splits.selection], shadows, unlearned):
            record["thresholds"] = thresholds
        if shadows is not None:
            record["memorization"] = known_mean(memorization(shadows, labels[rows])[members])
        return Artefact(record, {}, arrays)

    key = attack_key(experiment, splits, models.artefacts, originals)
    with manifest.stage("attack") as stage:
        artefact = trainer.store.get_or_make("attack", key, make)
        stage.note(
            reused=artefact.reused,
            artefact=artefact.digest,
            shadows=options.shadows * experiment.needs_shadows,
            originals=options.originals * experiment.needs_originals,
        )
    return Evidence(rows, members, artefact)


def attack_key(
    experiment: Experiment, splits: Splits, models: Mapping[str, Artefact], originals: OriginalSet
) -> dict[str, Any]:
    """Return everything that determines the results of the attacks: their key in the store."""
    options = experiment.shadow_options
    return {
        "schema": ATTACK_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.items()},
        "splits": {part: index_digest(rows) for part, rows in vars(splits).items()},
        "attacks": {name: attack.identity() for name, attack in experiment.attacks.items()},
        "shadows": options.identity() if experiment.needs_shadows else None,
        "originals": originals.identity() if experiment.needs_originals else None,
        "queries": options.queries,
        **experiment.separate("audit"),
        **added(experiment),
    }


def added(experiment: Experiment) -> dict[str, Any]:
    """Return which results were added since `ATTACK_SCHEMA` was raised: their part in keys, of the runs that have them.

    Results without them are then made again, and those of all other runs are reused.
    """
    questions = {"questions": "whole and tenth"} if experiment.needs_originals else {}
    thresholds = {"thresholds": FPR} if experiment.needs_originals or experiment.needs_shadows else {}
    repeats = experiment.shadow_options.repeats
    return {**questions, **thresholds, **({"repeats": len(repeats)} if repeats else {})}


def attacked_rows(splits: Splits, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows under attack, and which of them are members.

    The members are the forget set, the non-members test examples of its classes, both reduced until the classes have
    the same shares; see `comparable`.
    """
    members, others, _ = comparable(labels[splits.forget], labels[splits.test])
    rows = np.concatenate([splits.forget[members], splits.test[others]])
    return rows, np.arange(len(rows)) < len(members)


def able_attacks(attacks: dict[str, Attack], members: NDArray[np.bool_]) -> dict[str, Attack]:
    """Return the attacks that can work with these members and non-members (n,). Each of the others is logged.

    Raises:
        UserError: in one line, if no attack can, but for those that compare a model with the original.
    """
    problems: dict[str, UserError] = {}
    for name, attack in attacks.items():
        try:
            attack.check(members)
        except UserError as error:
            problems[name] = error
    left = {name: attack for name, attack in attacks.items() if name not in problems}
    if problems and all(attack.needs_original for attack in left.values()):
        raise next(iter(problems.values()))
    for name, problem in problems.items():
        logger.warning("the attack %s is left out: %s", name, problem)
    return left


def seen_by(attack: Attack, target: Observations) -> Observations:
    """Return what an attack may use: networks only if the attack needs them, as copies that the attack may change."""
    if not attack.needs_network or (given := target.white_box) is None:
        return replace(target, white_box=None)
    original = copy.deepcopy(given.original).eval() if attack.needs_original and given.original is not None else None
    network = copy.deepcopy(given.network).eval()
    return replace(target, white_box=replace(given, network=network, original=original))


def score_model(
    experiment: Experiment,
    target: Observations,
    shadows: ShadowOutputs | None = None,
    unlearned: UnlearnedOutputs | None = None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, dict[str, float]]]:
    """Return what every attack finds on one model.

    Returns:
        The losses of the model and the member scores and standard errors of each attack, (n,) each, by name; and the
        further metrics of each attack, see `Attack.figures`.
    """
    arrays = {LOSS: cross_entropy(target.logits[:, 0], target.labels)}
    figures = {}
    for name, attack in experiment.attacks.items():
        seen = seen_by(attack, target)
        rng = numpy_stream(experiment.seed_of("audit"), f"attack/{name}")
        models = unlearned if attack.needs_originals else shadows
        for variant, score in attack.score(seen, models, rng).items():
            if models is not None and (attack.needs_shadows or attack.needs_originals):
                # Rows outside the pool are OUT for twice as many models: better estimates alone would distinguish them.
                score = np.where(models.membership.any(0), score, np.nan)
            arrays[f"{name}/{variant}" if variant else name] = score
        figures[name] = attack.figures(seen)
    return arrays, figures


def audit_algorithm(
    experiment: Experiment, unlearned: UnlearnedOutputs, labels: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the results of every attack on the unlearner, by `algorithm/attack/question/model`; see `Attack.audit`."""
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
    """Split the arrays of `score_model` into losses and member scores, without standard errors."""
    scores = {name: array for name, array in arrays.items() if name != LOSS and not name.endswith(f"/{STDERR}")}
    return arrays[LOSS], scores
