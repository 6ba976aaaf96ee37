"""Bad teacher: distillation from the original on the retain set, and from a random network on the forget set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advunlearn.optimizers.optimizer import Optimizer
from advunlearn.options import option
from advunlearn.unlearners.descent import Descent, sampled_rows
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.layers import check_resettable, frozen_copy, initialise_again
from advunlearn.unlearners.unlearner import Task


class TwoTeachers(Descent):
    """Learn from the original on retain examples, and from a network of random weights on forget examples."""

    method: BadTeacher

    def prepare(self) -> None:
        """Copy the original as the good teacher, and initialise the bad one; see `Descent.prepare`."""
        self.good, self.bad = frozen_copy(self.network), frozen_copy(self.network)
        initialise_again(self.bad.modules(), self.task.settings, "bad_teacher/initialise")

    def loss(self, inputs: Any, logits: Tensor, labels: Tensor, forgotten: Tensor) -> Tensor:
        """Return the mean divergence from the teachers; see `Descent.loss`."""
        with torch.no_grad():
            good, bad = (teacher(inputs).float() for teacher in (self.good, self.bad))
        return taught(good, bad, logits, forgotten, self.method.temperature)


def taught(good: Tensor, bad: Tensor, student: Tensor, forgotten: Tensor, temperature: float) -> Tensor:
    """Return the mean of KL(q || p) over a batch, a scalar.

    Args:
        good, bad: logits (n, classes) of the teachers: q is that of the bad one for forget examples, else of the good.
        student: logits (n, classes), of which p is the softmax.
        forgotten: (n,) bool, which are forget examples.
        temperature: of all softmax functions.
    """
    target = torch.where(forgotten[:, None], F.softmax(bad / temperature, 1), F.softmax(good / temperature, 1))
    return F.kl_div(F.log_softmax(student / temperature, 1), target, reduction="batchmean")


@dataclass
class BadTeacher(GradientUnlearner):
    """Learn a random network's outputs on the forget set, and the original's on retain examples (Chundawat et al.).

    L = mean over D_f and a sample of D_r of KL(q || p), with q = softmax(z_u / T) of a network with random weights for
    forget examples, and softmax(z_o / T) of the original for retain examples; both in evaluation mode. The divergence
    is summed over classes; the authors' code also divides it by their number, to which Adam is invariant. Outputs on
    the forget set become nearly uniform. Those of a retrained model are more confident, so an attack can recognise
    forget examples. The random network is initialised by each layer's own `reset_parameters`.

    Attributes:
        lr, epochs, batch_size: the authors use 1e-4, 1 and 256, with Adam.
        momentum: AdamW's beta1; beta2 is 0.999.
        retain_share: share of the retain set that is used, drawn once; published 0.3.
        temperature: T, published 1.

    References:
        [chundawat2023] V. S. Chundawat, A. K. Tarun, M. Mandal and M. Kankanhalli, "Can Bad Teaching Induce
            Forgetting? Unlearning in Deep Networks Using an Incompetent Teacher", AAAI 2023.
            https://arxiv.org/abs/2205.08096 (code: github.com/vikram2000b/bad-teaching-unlearning)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")
    descent: ClassVar[type[Descent]] = TwoTeachers

    lr: float = option(1e-4, above=0)
    epochs: int = option(1, at_least=1)
    batch_size: int = option(256, at_least=1)
    retain_share: float = option(0.3, above=0, at_most=1, search=(0.1, 1.0))
    temperature: float = option(1.0, above=0)

    def check_network(self, network: nn.Module) -> None:
        """Refuse layers that cannot be reinitialised; see `Unlearner.check_network`."""
        check_resettable(network.modules(), "bad_teacher")

    def rows(self, task: Task) -> Tensor:
        """Return the sample of the retain set, and the forget set; see `GradientUnlearner.rows`."""
        return sampled_rows(task, self.retain_share, "bad_teacher/sample")

    def optimizer(self) -> Optimizer:
        """Return AdamW; see `GradientUnlearner.optimizer`."""
        return self.adamw()
