"""What further stages find, in `metrics.json`: weights, many models, the audit of the audit, further audits."""

from __future__ import annotations

from typing import TypedDict

from advunlearn.evaluation.attack_metrics import AttackMetrics
from advunlearn.evaluation.names import ComparedName, CurvePart, ModelName, PartName


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
