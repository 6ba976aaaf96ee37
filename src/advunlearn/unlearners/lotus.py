"""LoTUS: distillation from the original, with outputs on the forget set smoothed to held-out uncertainty."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import option
from advunlearn.runtime.devices import to_device
from advunlearn.runtime.seeding import torch_stream
from advunlearn.unlearners.descent import AtEpoch, Descent, sampled_rows
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.layers import frozen_copy
from advunlearn.unlearners.unlearner import Task, accuracy

logger = logging.getLogger(__name__)

ENOUGH = -0.01  # the authors' stopping rule: a difference of forget accuracy and held-out accuracy of at most this


class Smoothing(Descent):
    """Learn the original's predicted classes on retain examples, and its smoothed outputs on forget examples."""

    method: LoTUS

    def prepare(self) -> None:
        """Copy the original as the teacher, and measure its accuracy on held-out examples; see `Descent.prepare`."""
        self.teacher = frozen_copy(self.network)
        self.noise = torch_stream(self.task.settings.seed, "lotus/noise")
        self.gap = AtEpoch()
        whole = not torch.isin(self.task.forget.labels, self.task.retain.labels).any()
        self.wanted = 0.0 if whole else accuracy(self.network, self.task.audit)

    def parts(self) -> dict[str, Any]:
        """Return the gap of the epoch and the generator of the noise; see `Descent.parts`."""
        return {"gap": self.gap, "noise": self.noise}

    def goes_on(self) -> bool:
        """Return whether the accuracy on forget examples is still above its target; see `Descent.goes_on`."""
        gap = self.gap.of(self.epoch, lambda: accuracy(self.network, self.task.forget) - self.wanted)
        if gap <= ENOUGH:
            logger.info(
                "lotus stops before epoch %d: accuracy on forget examples is %.3g below its target", self.epoch, -gap
            )
        return gap > ENOUGH

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the mean cross-entropy with the teacher's outputs; see `Descent.loss`."""
        with torch.no_grad():
            taught = self.teacher(inputs).float()
        uniform = torch.rand(taught.shape, generator=self.noise).clamp(min=torch.finfo(torch.float32).tiny)
        noise = to_device(-(-uniform.log()).log(), taught.device)
        soft = F.softmax((taught + noise) / temperature(self.gap.value, self.method.alpha), 1)
        certain = torch.zeros_like(soft).scatter(1, taught.argmax(1, keepdim=True), 1.0)
        return F.cross_entropy(logits, torch.where(forgotten[:, None], soft, certain))


def temperature(gap: float, alpha: float) -> float:
    """Return exp(alpha gap), for a difference of two accuracies."""
    return math.exp(alpha * gap)


@dataclass
class LoTUS(GradientUnlearner):
    """Smooth the outputs on the forget set until the model is as uncertain as on held-out examples (LoTUS).

    L = mean over D_f and a sample of D_r of CE(q, p). For forget examples q = softmax((z_o + G) / tau), with Gumbel
    noise G and tau = exp(alpha (acc(theta, D_f) - acc(theta_o, held-out))), updated before each epoch; for retain
    examples q is one-hot at the class that the original predicts. The held-out examples are the audit set. Unlearning
    stops when the difference of accuracies is -0.01 or less; if whole classes are forgotten, 0 replaces the held-out
    accuracy. An original with almost the same accuracy on both sets therefore forgets almost nothing.

    Attributes:
        lr, epochs, batch_size, weight_decay: as the authors use, with AdamW.
        momentum: AdamW's beta1; beta2 is 0.999.
        alpha: of the temperature tau; published 8 for CIFAR-10 and 2 for CIFAR-100.
        retain_share: share of the retain set that is used, drawn once; published 0.3.

    References:
        [spartalis2025] C. N. Spartalis, T. Semertzidis, E. Gavves and P. Daras, "LoTUS: Large-Scale Machine Unlearning
            with a Taste of Uncertainty", CVPR 2025. https://arxiv.org/abs/2503.18314 (code:
            github.com/cspartalis/LoTUS)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget", "audit")
    descent: ClassVar[type[Descent]] = Smoothing

    lr: float = option(1e-4, above=0)
    epochs: int = option(10, at_least=1)
    batch_size: int = option(128, at_least=1)
    weight_decay: float = option(5e-4, at_least=0)
    alpha: float = option(8.0, at_least=0, search=(0.5, 32.0))
    retain_share: float = option(0.3, above=0, at_most=1)

    def rows(self, task: Task) -> Tensor:
        """Return the sample of the retain set, and the forget set; see `GradientUnlearner.rows`."""
        return sampled_rows(task, self.retain_share, "lotus/sample")

    def optimizer(self) -> Optimizer:
        """Return AdamW; see `GradientUnlearner.optimizer`."""
        return self.adamw()
