"""Rewinding the original's training, then fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advunlearn.data.examples import Examples
from advunlearn.options import UserError, option
from advunlearn.unlearners.descent import Descent
from advunlearn.unlearners.gradient import GradientUnlearner
from advunlearn.unlearners.unlearner import Steps, Task


class RewoundDescent(Descent):
    """The steps of `Rewind`."""

    method: Rewind

    def prepare(self) -> None:
        """Load the earlier state of the original; see `Descent.prepare`.

        Raises:
            UserError: without a training setup.
        """
        if self.task.training is None:
            raise UserError(
                "unlearner rewind repeats the original's training: use advunlearn.run, without a given original"
            )
        self.network.load_state_dict(self.task.training.earlier(self.method.share).state_dict())


@dataclass
class Rewind(GradientUnlearner):
    """Return to an earlier state of the original's training, and continue on the retain set (R2D, NeurIPS 2025).

    theta_k of the original's training on all examples, after the first k of its epochs, then L = CE(D_r)

    The earlier state is computed by repeating these epochs, with the same random streams and the learning rates of the
    whole training. Their time is part of the unlearning time; a user who keeps a checkpoint from the training does not
    need it. The paper adds noise at the end and certifies the result for gradient descent with small steps and without
    momentum. This implementation adds no noise and gives no certificate.

    Information about the forget set that the first epochs have memorised stays in the model, and what the later epochs
    have learned from the retain set must be learned again.

    Attributes:
        share: share of the original's epochs that is kept; 0 retrains with the options given here, 1 is fine-tuning.

    References:
        [mu2025] S. Mu and D. Klabjan, "Rewind-to-Delete: Certified Machine Unlearning for Nonconvex Functions",
            NeurIPS 2025. https://arxiv.org/abs/2409.09778
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    share: float = option(0.5, at_least=0, at_most=1, search=(0.1, 0.9))

    descent: ClassVar[type[Descent]] = RewoundDescent

    def examples(self, task: Task) -> Examples:
        """Return the retain set; see `GradientUnlearner.examples`."""
        return task.retain

    def repeats_training(self) -> bool:
        """Return True; see `Unlearner.repeats_training`."""
        return True

    def steps(self, task: Task) -> list[Steps] | None:
        """Return None: the time of the earlier epochs is unknown; see `Unlearner.steps`."""
        return None
