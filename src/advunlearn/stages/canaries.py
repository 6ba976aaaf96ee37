"""Stage `canaries`: whether the models have memorized the noise of the forget set, with `forget=canaries`."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, t
from torch import Tensor, nn

from advunlearn.config.experiment import Experiment
from advunlearn.data.examples import Examples
from advunlearn.data.forget.canaries import Canaries, standard_noise
from advunlearn.data.inputs import held, pieces
from advunlearn.data.splits import Splits
from advunlearn.evaluation.further_metrics import CanaryMetrics, CanaryTest
from advunlearn.evaluation.metrics import CONFIDENCE, clopper_pearson
from advunlearn.evaluation.names import MODELS
from advunlearn.runs.manifest import Manifest
from advunlearn.runtime.arrays import Floats
from advunlearn.stages.unlearn import Models
from advunlearn.storage.artefacts import Artefact, index_digest
from advunlearn.training.trainer import Trainer

CANARIES_SCHEMA = 1  # raise it when the results of this code change, as that of stage `unlearn`
FPR = 0.01
BATCH = 100


def find_canaries(
    experiment: Experiment, trainer: Trainer, splits: Splits, models: Models, manifest: Manifest
) -> CanaryTest | None:
    """Return how well each model's gradients show the noise of the forget set; None for a forget set without noise.

    References:
        [pawelczyk2025] M. Pawelczyk, J. Z. Di, Y. Lu, G. Kamath, A. Sekhari and S. Neel, "Machine Unlearning Fails to
            Remove Data Poisoning Attacks", ICLR 2025. https://arxiv.org/abs/2406.17216
    """
    forget = experiment.forget
    if not isinstance(forget, Canaries):
        return None
    key = {
        "schema": CANARIES_SCHEMA,
        "models": {name: [artefact.digest, artefact.content] for name, artefact in models.artefacts.items()},
        "forget": [forget.identity(), experiment.settings.seed, index_digest(splits.forget)],
    }

    def make() -> Artefact:
        assert trainer.pool.clean_inputs is not None
        noise = standard_noise(splits.forget, trainer.pool.clean_inputs.shape[1:], experiment.settings.seed)
        clean = clean_examples(trainer, splits)
        arrays: dict[str, NDArray[Any]] = {name: statistics(models.networks[name], clean, noise) for name in MODELS}
        return Artefact({}, {}, arrays)

    with manifest.stage("canaries") as stage:
        kept = trainer.store.get_or_make("canaries", key, make)
        stage.note(reused=kept.reused, artefact=kept.digest)
    return {"models": {name: summary(kept.arrays[name]) for name in MODELS}, "examples": len(splits.forget)}


def clean_examples(trainer: Trainer, splits: Splits) -> Examples:
    """Return the forget set without its noise, on the device."""
    images, examples = trainer.pool.clean_inputs, trainer.examples
    assert images is not None
    inputs = held(images, examples.labels.device, images=True, room=math.inf)
    return replace(examples, inputs=inputs, labels=examples.subset(splits.forget).labels)


def statistics(network: nn.Module, clean: Examples, noise: Floats) -> Floats:
    """Return the statistic (n,) of each image: large if the model has memorized its noise, N(0, 1) if it never saw it.

    With g the gradient of the cross-entropy with respect to the pixels of the clean image x, and xi the noise of
    standard deviation s, it is -<xi, g> / (s |g|): training on x + xi makes the loss fall in the direction of xi. If
    the model does not depend on xi, neither does g, so that the statistic is exactly standard normal. The gradient
    of the logit margin has the opposite direction, and does not vanish where the model is certain: it is taken
    instead. The statistic is 0 where it is 0.

    Args:
        network: the model, which is not changed.
        clean: n images without noise.
        noise: (n, h, w, c), that of the images over its standard deviation.
    """
    network, found = copy.deepcopy(network).eval(), []
    for images, labels in zip(pieces(clean.inputs, BATCH), clean.labels.split(BATCH), strict=True):
        assert isinstance(images, Tensor)
        pixels = images.float().requires_grad_()
        logits = network(clean.prepare(pixels)).float()
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -math.inf).logsumexp(1)
        (gradient,) = torch.autograd.grad((own - others).sum(), pixels)
        found.append(gradient.flatten(1).double().cpu().numpy())
    gradients = np.concatenate(found)
    size = np.linalg.norm(gradients, axis=1)
    along = (gradients * np.moveaxis(noise, -1, 1).reshape(len(noise), -1)).sum(1)
    return np.divide(along, size, out=np.zeros(len(size)), where=size > 0)


def summary(found: Floats) -> CanaryMetrics:
    """Return the numbers of n statistics against their null distribution, which is known: no examples stand for it.

    The AUC is the mean probability that a standard normal number is smaller, with Student's 95 % interval; the
    true-positive rate is that above the threshold which 1 % of standard normal numbers exceed, with Clopper-Pearson's.
    """
    count = len(found)
    below = norm.cdf(found)
    half = t.ppf((1 + CONFIDENCE) / 2, max(count - 1, 1)) * below.std(ddof=1) / math.sqrt(count) if count > 1 else 0.5
    above = int((found > norm.isf(FPR)).sum())
    low, high = clopper_pearson(above, count)
    return {
        "auc": float(below.mean()),
        "auc_low": max(float(below.mean() - half), 0.0),
        "auc_high": min(float(below.mean() + half), 1.0),
        "tpr_at_fpr_0.01": above / count,
        "tpr_at_fpr_0.01_low": low,
        "tpr_at_fpr_0.01_high": high,
        "p_value": float(norm.sf(found.mean() * math.sqrt(count))),
    }
