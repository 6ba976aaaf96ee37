"""What `metrics.json` holds: the one definition, which everything that makes or reads metrics is checked against."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from advunlearn.evaluation.attack_metrics import AlgorithmMetrics, AttackMetrics
from advunlearn.evaluation.further_metrics import (
    CanaryTest,
    Control,
    Distributions,
    Neighbours,
    Probe,
    Relearning,
    Retained,
    Selection,
    Swap,
    WeightSpace,
)
from advunlearn.evaluation.names import ComparedName, ModelName, PartName
from advunlearn.storage.files import UnreadableFile, read_json

AUDIT = "audit.json"


class ModelMetrics(TypedDict):
    """One of the three models. All of it is to match the retrained model; accuracy on retain and test is to be high.

    Attributes:
        accuracy: share in [0, 1] of each part of the data that is classified correctly.
        accuracy_low, accuracy_high: its 95 % interval (Clopper-Pearson).
        examples: how many examples each part has.
        loss_ks: Kolmogorov-Smirnov distance in [0, 1] between the losses of forget and of test examples.
        loss_wasserstein: 1-Wasserstein distance between the same losses, in nats.
        attacks: by name; `attack/variant` is another score of the same attack. All have the same names in all models.
    """

    accuracy: dict[PartName, float]
    accuracy_low: dict[PartName, float]
    accuracy_high: dict[PartName, float]
    examples: dict[PartName, int]
    loss_ks: float
    loss_wasserstein: float
    attacks: dict[str, AttackMetrics]


class _GapAddedLater(TypedDict, total=False):
    attacks_low: dict[str, float]
    attacks_high: dict[str, float]
    algorithm: dict[str, dict[str, float]]


class Gap(_GapAddedLater):
    """A model's numbers less those of the retrained model; 0 is the aim.

    Attributes:
        accuracy: by part of the data.
        loss_ks, loss_wasserstein: as in `ModelMetrics`.
        attacks: their AUC, by name.
        attacks_low, attacks_high: the 95 % interval of the same difference, from the same examples under both models;
            see `paired.auc_difference`. Older files lack it. Attacks on two models have neither.
        algorithm: the AUC of each question on the algorithm, by attack and question, less that of the algorithm that
            retrains. Older files lack it.
    """

    accuracy: dict[PartName, float]
    loss_ks: float
    loss_wasserstein: float
    attacks: dict[str, float]


class Epochs(TypedDict):
    """How the unlearner's epochs were judged to choose one; see `BestEpoch`. Lists have a value for each epoch.

    Attributes:
        step: how many steps had been made at its end.
        selection_accuracy: share in [0, 1] of the selection set.
        attack_auc: of the loss threshold, forget against selection examples.
        utility: accuracy less attack, at most 0.5; the largest is the best.
        chosen: the position of the epoch that was kept.
    """

    step: list[int]
    selection_accuracy: list[float]
    attack_auc: list[float]
    utility: list[float]
    chosen: int


class Trace(TypedDict, total=False):
    """What the unlearner recorded: a game, all of this; others, `epochs`, what they choose, or nothing.

    Lists have a value for each audit step.

    Attributes:
        step, epoch: when the audit step was made.
        base_loss: the leader's own loss on its batch.
        utility: the auditor's, higher where it can tell; `uninformed_utility` is that of one that cannot.
        auditor_accuracy: share in [0, 1] of held-out forget and audit examples that the auditor tells; 0.5: it cannot.
        base_gradient_norm, game_gradient_norm, cosine: of the gradients of base loss and game, and between them; the
            latter two are None where alpha is 0.
        epochs: if the epoch was chosen.
        collapsed: true if the accuracy on retain examples fell to that of predicting one class for all.
    """

    step: list[int]
    epoch: list[int]
    base_loss: list[float]
    utility: list[float]
    auditor_accuracy: list[float]
    base_gradient_norm: list[float]
    game_gradient_norm: list[float | None]
    cosine: list[float | None]
    uninformed_utility: float
    epochs: Epochs
    collapsed: bool


class Resources(TypedDict):
    """What unlearning needed.

    Attributes:
        reads: the parts of the data that the unlearner reads: retain, forget, audit, selection.
        peak_memory: bytes. On CUDA the most that was allocated on the device; on the CPU by how much the peak memory of
            the process grew, 0 if an earlier stage needed more. None if it was not measured.
        device: `cuda` or `cpu`.
    """

    reads: list[str]
    peak_memory: int | None
    device: str


class GivenOriginal(TypedDict):
    """An original that was given, and not trained by the run.

    Attributes:
        sha256: of its file of weights.
        forgotten_before: how many examples of the forget set were forgotten in the earlier runs of `original.run`.
        new: how many examples of the forget set are new in this run.
    """

    sha256: str
    forgotten_before: int
    new: int


class Memorization(TypedDict):
    """How much models memorize the forget set.

    Attributes:
        mean: over the forget set, of P[correct | IN] - P[correct | OUT] (Feldman and Zhang 2020), in [-1, 1].
        examples: how many examples of the forget set it is the mean of.
        models: how many models it is estimated from: the shadow models of the attacks if there are any.
        chosen_by_it: whether these models also chose the forget set: the mean is then biased.
    """

    mean: float
    examples: int
    models: int
    chosen_by_it: bool


class Mislabelled(TypedDict):
    """How a model classifies a forget set that was trained with wrong labels.

    Attributes:
        wrong_label, true_label: share in [0, 1] that is classified as the label of the training, and as the true one.
    """

    wrong_label: float
    true_label: float


class Followed(TypedDict):
    """What one model answers on the examples of each request, in their order.

    Attributes:
        accuracy: share in [0, 1] that is classified correctly.
        auc: of the loss threshold, against comparable test examples.
    """

    accuracy: list[float]
    auc: list[float]


class Rounds(TypedDict):
    """Requests to forget that were served one after the other.

    Attributes:
        examples: how many examples each request adds to the forget set.
        models: the original, and the model after each request: what they answer on the examples of every request.
        retrained: the model that was trained without any of them.
        seconds: of unlearning, for each request.
    """

    examples: list[int]
    models: list[Followed]
    retrained: Followed
    seconds: list[float]


class _AddedLater(TypedDict, total=False):
    neighbours: Neighbours
    probe: Probe
    control: Control
    swap: Swap
    canaries: CanaryTest
    retained: Retained
    relearning: Relearning
    selection: Selection
    weights: WeightSpace
    distributions: Distributions
    memorization: Memorization
    mislabelled: dict[ModelName, Mislabelled]
    rounds: Rounds
    original: GivenOriginal
    unlearning: Resources
    algorithm: dict[str, dict[str, dict[ModelName, AlgorithmMetrics]]]


class Metrics(_AddedLater):
    """The contents of `metrics.json`.

    Attributes:
        schema: the version of this format.
        models: each model's numbers.
        gap: how far two of the models are from the retrained one.
        algorithm: of attacks on the unlearning algorithm: by attack, by question, by model. Older files lack it.
        original: the original, if it was given.
        memorization: of the forget set, if it is known.
        probe: whether forget and test examples look alike to the retrained model. Older files lack it.
        neighbours: of forgotten classes, if whole classes are forgotten.
        control: of the audit, if the run has at least three retrained models.
        rounds: if the forget set is divided into several requests. The unlearned model is that after the last one.
        mislabelled: of each model, if the forget set was trained with wrong labels.
        seconds: that each stage took when it was computed: pretrain (unless the original was given), retrain, unlearn,
            shadows, attack; `references` where the unlearner uses reference models.
        unlearning_over_retraining: seconds of unlearning over those of retraining, without reference models; below 1
            unlearning is cheaper. NaN in a comparison from Python if one of the two times is not known.
        references_over_retraining: seconds of the reference models over those of retraining; 0 without such models.
        trace: what the unlearner recorded.
        unlearning: what unlearning needed. Older files lack it.
        weights: distances between the models' parameters, and the line between them. Older files lack it.
        distributions: many unlearned against many retrained models, if the run has shadow originals.
        relearning: the models while they are fine-tuned on the retain set alone, if `audits.relearning` asks for it.
        retained: attacks on retained examples, if `audits.retained` asks for it.
        canaries: the test of the noise of the forget set, with `forget=canaries`.
        swap: the advantage over both splits of a swap, if `audits.swap` asks for it.
        selection: the models on the selection set, if it has examples of the forget set's classes. Older files lack it.
    """

    schema: Literal[1]
    models: dict[ModelName, ModelMetrics]
    gap: dict[ComparedName, Gap]
    seconds: dict[str, float]
    unlearning_over_retraining: float
    references_over_retraining: float
    trace: Trace


class AuditFile(TypedDict):
    """The contents of `audit.json`.

    Attributes:
        schema: the version of this format.
        model: the attacked model.
        metrics: its numbers.
    """

    schema: Literal[1]
    model: GivenOriginal
    metrics: ModelMetrics


def is_audit(folder: Path) -> bool:
    """Return whether a folder holds the result of an audit, and not that of a run."""
    return (folder / AUDIT).is_file()


def read_audit(folder: Path) -> ModelMetrics:
    """Return the numbers of the model that was audited in this folder.

    Raises:
        UnreadableFile: as `read_metrics`.
    """
    return read_json(folder / AUDIT, AuditFile)["metrics"]


def read_metrics(folder: Path) -> Metrics:
    """Return the contents of a run's `metrics.json`.

    Raises:
        UnreadableFile: if there is none, if it is damaged, and if another version of advunlearn wrote it, which names
            the key that is missing.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise UnreadableFile(folder, f"does not hold a finished run: it has no {path.name}")
    return read_json(path, Metrics)
