"""Fine-tuning on the retain set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advunlearn.data.examples import Examples
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.unlearner import Task


@dataclass
class Finetune(GradientUnlearner):
    """Continue training on the retain set alone: L = CE(D_r).

    References:
        [golatkar2020] A. Golatkar, A. Achille and S. Soatto, "Eternal Sunshine of the Spotless Net: Selective
            Forgetting in Deep Networks", CVPR 2020. https://arxiv.org/abs/1911.04933 (a baseline there)
    """

    reads: ClassVar[tuple[str, ...]] = ("retain",)

    def examples(self, task: Task) -> Examples:
        """Return the retain set; see `GradientUnlearner.examples`."""
        return task.retain
