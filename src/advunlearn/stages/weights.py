"""Stage `weights`: how far the models lie from each other as points in the space of their parameters."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from advunlearn.data.examples import Examples
from advunlearn.data.splits import Splits
from advunlearn.evaluation.comparison import accuracy
from advunlearn.evaluation.further_metrics import WeightMetrics, WeightSpace
from advunlearn.evaluation.names import MODELS, CurvePart, ModelName
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Rows
from advunlearn.runtime.seeding import numpy_stream
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.fit import mode
from advunlearn.training.trainer import Trainer

WEIGHTS_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`
POINTS = 5  # of a line, with both ends
MOST_EXAMPLES = 1000  # of each part: a standard error of 0.016 at most, for less than 1 % of the time of a training


def compare_weights(trainer: Trainer, splits: Splits, models: Models, manifest: Manifest) -> WeightSpace:
    """Return distances and error barriers between the three models, from the store if available."""
    rng = numpy_stream(trainer.settings.seed, "weights")
    rows: dict[CurvePart, Rows] = {"retain": some(splits.retain, rng), "test": some(splits.test, rng)}
    key = {
        "schema": WEIGHTS_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.artefacts.items()},
        "rows": {part: index_digest(each) for part, each in rows.items()},
    }
    with manifest.stage("weights") as stage:
        kept = trainer.store.get_or_make("weights", key, lambda: Artefact(dict(measure(trainer, models, rows)), {}, {}))
        stage.note(reused=kept.reused, artefact=kept.digest)
    found: WeightSpace = {
        "models": kept.record["models"],
        "reason": kept.record["reason"],
        "examples": {part: len(each) for part, each in rows.items()},
        "points": POINTS,
    }
    return found


def some(rows: Rows, rng: np.random.Generator) -> Rows:
    """Return a random sample of the rows, sorted, or all of them if they are few."""
    return np.sort(rng.permutation(np.sort(rows))[:MOST_EXAMPLES])


def measure(trainer: Trainer, models: Models, rows: dict[CurvePart, Rows]) -> dict[str, object]:
    """Return the models' numbers, or the reason why they have none, as plain data."""
    networks = [models.networks[name] for name in MODELS]
    original, retrained, _ = networks
    others = [name for name, network in zip(MODELS, networks, strict=True) if not comparable(network, original)]
    if others:
        return {"models": {}, "reason": f"not of the original's architecture: {' and '.join(others)}"}
    found: dict[ModelName, WeightMetrics] = {
        name: {
            "from_original": relative_distance(network, original),
            "from_retrained": relative_distance(network, retrained),
            "barrier": _barriers(trainer, original, network, rows),
        }
        for name, network in zip(MODELS, networks, strict=True)
    }
    return {"models": found, "reason": ""}


def comparable(network: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks are of the same class, with parameters and buffers of the same names and shapes."""
    shapes = [{name: each.shape for name, each in model.state_dict().items()} for model in (network, other)]
    return type(network) is type(other) and shapes[0] == shapes[1]


def relative_distance(network: nn.Module, other: nn.Module) -> float:
    """Return the Euclidean distance between the parameters of two comparable networks, over the norm of the other's.

    All parameters count, trained or not, but not the statistics of batch normalisation. Two trainings from different
    random weights are far apart, even where the networks compute the same: compare with the distance of the retrained
    model, and take a small distance for a small change, not a large one for forgetting. NaN if the norm is 0.

    References:
        [siddiqui2025] S. A. Siddiqui, A. Weller, D. Krueger, G. K. Dziugaite, M. C. Mozer and E. Triantafillou, "From
            Dormant to Deleted: Tamper-Resistant Unlearning Through Weight-Space Regularization", 2025.
            https://arxiv.org/abs/2505.22310 (distance and connectivity to the original predict whether fine-tuning
            brings back what was forgotten)
    """
    pairs = [
        (ours.detach().double(), theirs.detach().double())
        for ours, theirs in zip(network.parameters(), other.parameters(), strict=True)
    ]
    squares = sum(float((ours - theirs).square().sum()) for ours, theirs in pairs)
    norm = sum(float(theirs.square().sum()) for _, theirs in pairs)
    return math.sqrt(squares / norm) if norm else math.nan


def barrier(errors: Sequence[float]) -> float:
    """Return the height of the barrier between two models: 0 or more.

    It is the largest difference between the errors at equally spaced points of the straight line between two models,
    both ends included, and the straight line between the errors of the ends. Entezari et al. subtract this line;
    Frankle et al. subtract the mean of the ends, which is the same if the ends have the same error, but counts half of
    their difference as a barrier if not, as between an original and a model that has lost accuracy.

    References:
        [frankle2020] J. Frankle, G. K. Dziugaite, D. M. Roy and M. Carbin, "Linear Mode Connectivity and the Lottery
            Ticket Hypothesis", ICML 2020. https://arxiv.org/abs/1912.05671
        [entezari2022] R. Entezari, H. Sedghi, O. Saukh and B. Neyshabur, "The Role of Permutation Invariance in Linear
            Mode Connectivity of Neural Networks", ICLR 2022. https://arxiv.org/abs/2110.06296
    """
    return float(np.max(np.asarray(errors) - np.linspace(errors[0], errors[-1], len(errors))))


def interpolated(network: nn.Module, other: nn.Module, share: float, examples: Examples) -> nn.Module:
    """Return the network whose parameters and buffers lie at `share` of the way from one network to the other.

    The statistics of batch normalisation are computed anew, on the examples: interpolated statistics fit neither
    network and can cause a barrier by themselves.

    References:
        [jordan2023] K. Jordan, H. Sedghi, O. Saukh, R. Entezari and B. Neyshabur, "REPAIR: REnormalizing Permuted
            Activations for Interpolation Repair", ICLR 2023. https://arxiv.org/abs/2211.08403
    """
    between = copy.deepcopy(network)
    tensors = [itertools.chain(each.parameters(), each.buffers()) for each in (between, other)]  # each tied tensor once
    with torch.no_grad():
        for ours, theirs in zip(*tensors, strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, share)
    _normalise(between, examples)
    return between


def _normalise(network: nn.Module, examples: Examples) -> None:
    """Compute the statistics of batch normalisation on the examples, in place."""
    layers = [each for each in network.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    if not layers:
        return
    with mode(network, training=False), torch.no_grad():  # dropout stays off
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over the batches
            layer.train()
        for inputs, _ in examples.batches():
            network(inputs)


def _barriers(
    trainer: Trainer, original: nn.Module, network: nn.Module, rows: dict[CurvePart, Rows]
) -> dict[CurvePart, float]:
    """Return the barriers between the original and another model."""
    if network is original:
        return dict.fromkeys(rows, 0.0)
    retain = trainer.examples.subset(rows["retain"])
    between = (interpolated(original, network, share, retain) for share in np.linspace(0, 1, POINTS)[1:-1].tolist())
    points = itertools.chain([original], between, [network])  # the ends as they are, with their own statistics
    errors = [_errors(trainer, point, rows) for point in points]
    return {part: barrier([each[part] for each in errors]) for part in rows}


def _errors(trainer: Trainer, network: nn.Module, rows: dict[CurvePart, Rows]) -> dict[CurvePart, float]:
    """Return the share of the examples of each part that a network classifies wrongly."""
    labels = trainer.pool.labels
    return {part: 1 - accuracy(trainer.logits(network, each, 1)[:, 0], labels[each]) for part, each in rows.items()}
