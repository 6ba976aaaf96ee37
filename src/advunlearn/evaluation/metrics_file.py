"""What `metrics.json` holds: the one definition, which everything that makes or reads metrics is checked against."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from advunlearn.storage.files import UnreadableFile, read_json

AUDIT = "audit.json"

ModelName = Literal["original", "retrained", "unlearned"]
ComparedName = Literal["original", "unlearned"]  # with the retrained model
PartName = Literal["retain", "forget", "test"]
FollowedName = Literal["accuracy", "auc"]  # of the examples of one request
CurvePart = Literal["retain", "test"]  # on which errors between two models are computed

MODELS: tuple[ModelName, ...] = ("original", "retrained", "unlearned")
COMPARED: tuple[ComparedName, ...] = ("original", "unlearned")
PARTS: tuple[PartName, ...] = ("retain", "forget", "test")

TENTH = "_tenth"  # the suffix of questions that are asked of the most vulnerable tenth of the forgotten examples

# What `metrics.roc` returns: how well scores tell members (forget examples) from non-members (test examples).
RocMetrics = TypedDict(
    "RocMetrics",
    {
        # Probability in [0, 1] that a member scores higher than a non-member, ties counting half, with its 95 %
        # interval and how that was made. 0.5: the attack cannot tell. Far below 0.5 is as much a leak as far above.
        "auc": float,
        "auc_low": float,
        "auc_high": float,
        "interval": str,
        # |auc - 0.5|, in [0, 0.5].
        "auc_distance": float,
        # Lower bound of epsilon, at least 0; see `metrics.epsilon_lower_bound`: an indicator, not a certificate.
        "epsilon_low": float,
        # (TPR + TNR) / 2 in [0, 1]; thresholds are chosen on one half of the examples and judged on the other.
        "balanced_accuracy": float,
        # How many examples were scored; excluded: how many had no score.
        "members": int,
        "nonmembers": int,
        "excluded": int,
        # The largest true-positive rate in [0, 1] at a false-positive rate of at most 1 %, with its 95 % interval
        # (Clopper-Pearson) and the counts of true and false positives that it comes from; then the same at 0.1 %.
        "tpr_at_fpr_0.01": float,
        "tpr_at_fpr_0.01_low": float,
        "tpr_at_fpr_0.01_high": float,
        "tpr_at_fpr_0.01_count": int,
        "tpr_at_fpr_0.01_false_positives": int,
        "tpr_at_fpr_0.001": float,
        "tpr_at_fpr_0.001_low": float,
        "tpr_at_fpr_0.001_high": float,
        "tpr_at_fpr_0.001_count": int,
        "tpr_at_fpr_0.001_false_positives": int,
        # Which of these numbers so few examples cannot support, in words; empty if none.
        "note": str,
    },
)


class Threshold(TypedDict):
    """A threshold of member scores, chosen by shadow models in the place of the target; see `operating.threshold_of`.

    Attributes:
        value: scores above it are called members.
        models, scores: how many shadow models chose it, by how many scores of non-members.
    """

    value: float
    models: int
    scores: int


# How an attack does at a threshold that shadow models have chosen; see `operating.operating_point`.
OperatingPoint = TypedDict(
    "OperatingPoint",
    {
        # As in `Threshold`.
        "threshold": float,
        "models": int,
        "scores": int,
        # The rates of forget and of test examples above it, in [0, 1], with their 95 % intervals (Clopper-Pearson).
        "tpr": float,
        "tpr_low": float,
        "tpr_high": float,
        "fpr": float,
        "fpr_low": float,
        "fpr_high": float,
        # The share of members among the examples that are called members, where this share of all examples are
        # members, with its interval. None if no example is called a member.
        "precision_at_prior_0.01": float | None,
        "precision_at_prior_0.01_low": float,
        "precision_at_prior_0.01_high": float,
        "precision_at_prior_0.1": float | None,
        "precision_at_prior_0.1_low": float,
        "precision_at_prior_0.1_high": float,
        "precision_at_prior_0.5": float | None,
        "precision_at_prior_0.5_low": float,
        "precision_at_prior_0.5_high": float,
    },
)


class _AttackAddedLater(TypedDict, total=False):
    operating: OperatingPoint


class AttackMetrics(RocMetrics, _AttackAddedLater):
    """One attack on one model.

    Attributes:
        operating: of the primary score of an attack with shadow models. Older files lack it.
        shadows: how many shadow models, or shadow originals, the attack compares with; 0 if it uses none.
        figures: what else the attack's paper reports, by name; see `Attack.figures`.
    """

    shadows: int
    figures: dict[str, float]


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


class Gap(_GapAddedLater):
    """A model's numbers less those of the retrained model; 0 is the aim.

    Attributes:
        accuracy: by part of the data.
        loss_ks, loss_wasserstein: as in `ModelMetrics`.
        attacks: their AUC, by name.
        attacks_low, attacks_high: the 95 % interval of the same difference, from the same examples under both models;
            see `paired.auc_difference`. Older files lack it. Attacks on two models have neither.
    """

    accuracy: dict[PartName, float]
    loss_ks: float
    loss_wasserstein: float
    attacks: dict[str, float]


# The largest true-positive rates in [0, 1] at false-positive rates of at most 1 % and 5 %, with their 95 % intervals,
# over the scores of many models; see `over_models.tpr_over_models`. Older files lack them.
AlgorithmRates = TypedDict(
    "AlgorithmRates",
    {
        "tpr_at_fpr_0.01": float,
        "tpr_at_fpr_0.01_low": float,
        "tpr_at_fpr_0.01_high": float,
        "tpr_at_fpr_0.05": float,
        "tpr_at_fpr_0.05_low": float,
        "tpr_at_fpr_0.05_high": float,
    },
    total=False,
)


class AlgorithmMetrics(AlgorithmRates):
    """How well an attack tells models that an algorithm made from others; see `Attack.audit`.

    Attributes:
        auc, auc_low, auc_high, interval: as in `RocMetrics`, over the scores of many models.
        originals: how many shadow originals were unlearned.
        scores: how many scores, over all of them, of examples that they forgot.
    """

    auc: float
    auc_low: float
    auc_high: float
    interval: str
    originals: int
    scores: int


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


class WeightMetrics(TypedDict):
    """Where the weights of one model lie.

    Attributes:
        from_original, from_retrained: distance of its parameters to those of the other model, over the norm of the
            latter; see `weights.relative_distance`.
        barrier: in [0, 1], on retain and test examples: by how much the error on the straight line to the original lies
            above that of its ends; see `weights.barrier`.
    """

    from_original: float
    from_retrained: float
    barrier: dict[CurvePart, float]


class WeightSpace(TypedDict):
    """The three models as points in the space of their parameters.

    Attributes:
        models: by name; empty if they have no common space.
        reason: why they have none, in words; empty if they have one.
        examples: on how many examples of each part the errors were computed.
        points: at how many points of each line, with both ends.
    """

    models: dict[ModelName, WeightMetrics]
    reason: str
    examples: dict[CurvePart, int]
    points: int


class DistributionMetrics(TypedDict):
    """How far many models are from retrained ones, by the distribution of their outputs.

    Attributes:
        klom: 95th percentile over the examples of a part of the data, in nats; see `distributions.klom`.
        forgetting_quality: in [0, 1]; see `distributions.forgetting_quality`.
        competition_score: the same times the ratios of accuracies, to retrained models, on retain and test examples.
    """

    klom: dict[PartName, float]
    forgetting_quality: float
    competition_score: float


class Distributions(TypedDict):
    """Shadow originals, as they are, retrained once more, and unlearned, against models retrained from scratch.

    The `retrained` models show what a perfect unlearner reaches with so many models.

    Attributes:
        models: by name; empty if there are too few.
        reason: why there are no numbers, in words; empty if there are.
        each: how many models of each kind an example has, at most.
        examples: of each part.
    """

    models: dict[ModelName, DistributionMetrics]
    reason: str
    each: int
    examples: dict[PartName, int]


class SelectionMetrics(TypedDict):
    """One model on the selection set, by which options and epochs are chosen; see `BestEpoch`.

    Attributes:
        accuracy: share in [0, 1] that is classified correctly.
        attack_auc: of the loss threshold, forget against comparable selection examples.
        utility: accuracy less the larger of the AUC and 1 - AUC, at most 0.5.
    """

    accuracy: float
    attack_auc: float
    utility: float


class Selection(TypedDict):
    """The models on the selection set.

    Attributes:
        models: by name.
        examples: how many the selection set has.
    """

    models: dict[ModelName, SelectionMetrics]
    examples: int


class ProbedAttack(TypedDict):
    """The AUC of one attack on the retrained model, with an interval that holds jointly with those of other attacks."""

    auc: float
    auc_low: float
    auc_high: float


class Probe(TypedDict):
    """Whether forget and test examples are exchangeable to the retrained model, which has seen neither.

    Attributes:
        attacks: by name, and `loss`.
        void: those whose interval does not hold one half: the comparison to one half is void.
        sampled: whether the forget set is a random sample, so that they should be exchangeable.
    """

    attacks: dict[str, ProbedAttack]
    void: list[str]
    sampled: bool


class ControlledAttack(TypedDict):
    """One attack on a retrained model in the place of the unlearned one; see `control.control`.

    Attributes:
        auc: of this model.
        reference, spread: mean and standard deviation of the AUC of the other retrained models.
        difference, low, high: auc less reference, with an interval that holds jointly with those of other attacks.
    """

    auc: float
    reference: float
    spread: float
    difference: float
    low: float
    high: float


class Control(TypedDict):
    """A retrained model in the place of the unlearned one, judged by the other retrained models.

    Attributes:
        models: how many retrained models there are.
        attacks: by name.
        failed: those whose interval does not hold 0.
    """

    models: int
    attacks: dict[str, ControlledAttack]
    failed: list[str]


class Relearned(TypedDict):
    """How one model answers while it is fine-tuned on the retain set alone. Lists have a value for each step measured.

    Attributes:
        step: how many steps had been made; the first is 0.
        forget, forget_low, forget_high: share in [0, 1] of the forget set that is classified correctly, with its 95 %
            interval (Clopper-Pearson).
        test: share in [0, 1] of the test set that is classified correctly.
        auc, auc_low, auc_high: of the loss threshold, forget against comparable test examples, with its 95 % interval.
    """

    step: list[int]
    forget: list[float]
    forget_low: list[float]
    forget_high: list[float]
    test: list[float]
    auc: list[float]
    auc_low: list[float]
    auc_high: list[float]


class Relearning(TypedDict):
    """The three models while they are fine-tuned on the retain set alone, on the same batches.

    Attributes:
        models: by name.
        epochs, lr: of the fine-tuning.
        examples: of forget and test set.
        attacked: how many of them the AUC is computed on.
    """

    models: dict[ModelName, Relearned]
    epochs: int
    lr: float
    examples: dict[str, int]
    attacked: dict[str, int]


class Retained(TypedDict):
    """What attacks find of examples that are kept, against test examples: as of the retrained model is the aim.

    Attributes:
        models: by name, each attack by name, with its primary score; attacks that need other models are left out.
        examples: how many retained and test examples are attacked.
    """

    models: dict[ModelName, dict[str, AttackMetrics]]
    examples: dict[CurvePart, int]


# How well the gradients of a model show the noise of the forget set; see `canaries.summary`.
CanaryMetrics = TypedDict(
    "CanaryMetrics",
    {
        # Probability in [0, 1] that an image's statistic exceeds a standard normal number, with its 95 % interval. 0.5
        # for a model that never saw the noise.
        "auc": float,
        "auc_low": float,
        "auc_high": float,
        # The share in [0, 1] of statistics above the threshold that 1 % of standard normal numbers exceed, with its
        # 95 % interval (Clopper-Pearson).
        "tpr_at_fpr_0.01": float,
        "tpr_at_fpr_0.01_low": float,
        "tpr_at_fpr_0.01_high": float,
        # Probability of so large a mean of the statistics for a model that never saw the noise.
        "p_value": float,
    },
)


class CanaryTest(TypedDict):
    """The models on the noise that the forget set was trained with.

    Attributes:
        models: by name.
        examples: how many images carry noise.
    """

    models: dict[ModelName, CanaryMetrics]
    examples: int


class NeighbourMetrics(TypedDict):
    """How far one model's neighbour classes of forgotten classes are from those of retrained models.

    Attributes:
        distance: total variation, in [0, 1]; see `neighbours.neighbour_distance`.
        null_high: the 95th percentile of the distance if assignments are exchanged at random between the models.
        p_value: the share of models, this one and the retrained ones, that lie as far from all others.
    """

    distance: float
    null_high: float
    p_value: float


class Neighbours(TypedDict):
    """Which other classes the examples of forgotten classes are taken for, if whole classes are forgotten.

    Attributes:
        models: original and unlearned model, against the retrained ones.
        floor: the largest distance of a retrained model to the others; None for fewer than three.
        examples: how many, of the forget set and test examples of its classes.
        references: how many retrained models they are compared with.
    """

    models: dict[ComparedName, NeighbourMetrics]
    floor: float | None
    examples: int
    references: int


class Advantage(TypedDict):
    """The advantage in [0, 1] of an attacker in the swap, with its 95 % interval; see `swap.advantage`."""

    advantage: float
    advantage_low: float
    advantage_high: float


class Swap(TypedDict):
    """The models with forget and test examples in each other's place as well; 0 is the aim, and the retrained model's.

    Attributes:
        models: by name.
        examples: how many of each are swapped.
    """

    models: dict[ModelName, Advantage]
    examples: int


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


def is_tenth(question: str) -> bool:
    """Return whether a question on the algorithm is asked of the most vulnerable tenth of the forgotten examples."""
    return question.endswith(TENTH)


def question_in_words(question: str) -> str:
    """Return the name of a question on the algorithm, for a table."""
    return f"{question.removesuffix(TENTH)}, worst tenth" if is_tenth(question) else question


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
