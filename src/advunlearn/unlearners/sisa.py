"""SISA: sharded exact unlearning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advunlearn.data.inputs import Batch
from advunlearn.options import UserError, option
from advunlearn.runtime.arrays import Labels
from advunlearn.unlearners.unlearner import Task, Unlearned, Unlearner


@dataclass
class SISA(Unlearner):
    """Train an ensemble on shards of the data, and retrain the members whose shard contains forget examples (SISA).

    p(y | x) = mean over shards of softmax f_s(x),   f_s trained on shard s of D without D_f

    It is exact: no member was trained on a forget example, and the model of a shard without forget examples does not
    change, to the bit. The store keeps such models for later requests. The first request trains them, and the time is
    part of its unlearning time. The paper also divides shards into slices, with a checkpoint for each; this
    implementation does not.

    The ensemble is less accurate than one model, since each member sees only a part of the data, and more so with more
    shards. The original of a run is one model and not the ensemble, so compare the test accuracies of the unlearned and
    the retrained model, which have the same distribution with one shard. SISA saves no time if every shard contains a
    forget example, as for a random tenth: it then retrains all members.

    Attributes:
        shards: number of shards and of members of the ensemble, which are trained with the optimizer of the run.

    References:
        [bourtoule2021] L. Bourtoule, V. Chandrasekaran, C. A. Choquette-Choo, H. Jia, A. Travers, B. Zhang, D. Lie and
            N. Papernot, "Machine Unlearning", IEEE Symposium on Security and Privacy 2021.
            https://arxiv.org/abs/1912.03817 (code: github.com/cleverhans-lab/machine-unlearning)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    shards: int = option(5, at_least=1, search=(2, 10))

    def check(self, labels: Mapping[str, Labels]) -> None:
        """Refuse shards of fewer than two examples; see `Unlearner.check`."""
        count = len(labels["retain"]) + len(labels["forget"])
        if count < 2 * self.shards:
            raise UserError(f"unlearner.shards must be at most {count // 2}, half of the examples, got {self.shards}")

    def repeats_training(self) -> bool:
        """Return True; see `Unlearner.repeats_training`."""
        return True

    def result(self, build: Callable[[], nn.Module]) -> nn.Module:
        """Return an ensemble; see `Unlearner.result`."""
        return Ensemble(build() for _ in range(self.shards))

    def unlearn(self, network: nn.Module, task: Task) -> Unlearned:
        """Return the ensemble; see `Unlearner.unlearn`."""
        if task.training is None:
            raise UserError(
                "unlearner sisa trains as the original was trained: use advunlearn.run, without a given original"
            )
        return Unlearned(Ensemble(task.training.shards(self.shards)).eval())


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged: its logits (n, classes) are the logarithms of the mean."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Batch) -> Tensor:
        """Return the logits for a batch of inputs."""
        logs = torch.stack([member(inputs).float().log_softmax(1) for member in self.members])
        return logs.logsumexp(0) - math.log(len(logs))
