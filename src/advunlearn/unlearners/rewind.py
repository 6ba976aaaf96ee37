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
        """Return to the earlier state.

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
    """Return to an earlier state of the original's training and go on with the retain set (R2D, NeurIPS 2025).

    theta_k of the original's training on all examples, after the first k of its epochs, then L = CE(D_r)

    The earlier state is computed by repeating these epochs, from the same random streams, with the learning rates of
    the whole training; their time is counted. Whoever keeps a checkpoint saves it. The paper adds noise at the end, for
    a certificate that holds for gradient descent without momentum and small steps; here there is none.

    It fails by its price: what the first epochs have memorised stays, and what the later ones have learned of the
    retain set is learned again.

    Attributes:
        share: of the original's epochs that are kept. 0 retrains with the steps given here, 1 is fine-tuning.

    References:
        [mu2025] S. Mu and D. Klabjan, "Rewind-to-Delete: Certified Machine Unlearning for Nonconvex Functions",
            NeurIPS 2025. https://arxiv.org/abs/2409.09778
    """

    reads: ClassVar[tuple[str, ...]] = ("retain", "forget")

    share: float = option(0.5, at_least=0, at_most=1)

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
