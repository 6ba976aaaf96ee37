"""Random labels on the forget set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from advunlearn.data.examples import Examples
from advunlearn.options import UserError, option
from advunlearn.runtime.seeding import torch_stream
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.unlearner import Task


@dataclass
class RandomLabel(GradientUnlearner):
    """Continue training with wrong labels on the forget set (amnesiac unlearning; Graves et al., AAAI 2021).

    L = CE(D_r u {(x, y~) : D_f}), with y~ != y drawn once, uniformly among the other classes. Both sets are shuffled
    into the same batches, and an example of either counts the same. Few epochs are enough: sooner or later the wrong
    labels are memorised, and forget examples are then more conspicuous by their losses than before.

    References:
        [graves2021] L. Graves, V. Nagisetty and V. Ganesh, "Amnesiac Machine Learning", AAAI 2021.
            https://arxiv.org/abs/2010.10981 (its unlearning by relabelling)
        [golatkar2020] A. Golatkar, A. Achille and S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
            Forgetting in Deep Networks", CVPR 2020. https://arxiv.org/abs/1911.04933 (a baseline there)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    epochs: int = option(5, at_least=1)

    def check(self, labels: Mapping[str, NDArray[np.int64]]) -> None:
        """Refuse training examples of one class, which has no wrong label; see `Unlearner.check`."""
        super().check(labels)
        if len(np.unique(np.concatenate([labels["retain"], labels["forget"]]))) < 2:
            raise UserError("random labels need a second class among the training examples, got one")

    def examples(self, task: Task) -> Examples:
        """Return the retain set, followed by the forget set under drawn labels; see `GradientUnlearner.examples`."""
        return task.retain.followed_by(relabelled(task))


def relabelled(task: Task) -> Examples:
    """Return the forget examples, each under another class of the training examples, of which there are two or more."""
    labels = torch.cat([task.forget.labels, task.retain.labels])
    classes, position = torch.unique(labels, return_inverse=True)
    generator = torch_stream(task.settings.seed, "random_label")
    shift = torch.randint(1, len(classes), (len(task.forget),), generator=generator).to(labels.device)
    return replace(task.forget, labels=classes[(position[: len(task.forget)] + shift) % len(classes)])
