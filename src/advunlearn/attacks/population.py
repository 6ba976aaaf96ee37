"""The population attack (Ye et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from advunlearn.attacks.attack import Attack, Observations
from advunlearn.attacks.statistics import share_below
from advunlearn.options import UserError
from advunlearn.shadows.outputs import ShadowOutputs


@dataclass
class Population(Attack):
    """Attack P: the share of a population of non-members whose loss under the same model is not below the example's.

    It ranks examples as the loss does, and adds a scale: one minus the score is the false-positive rate at which the
    example is called a member.

    References:
        [ye2022] J. Ye, A. Maddi, S. K. Murakonda, V. Bindschaedler and R. Shokri, "Enhanced Membership Inference
            Attacks against Machine Learning Models", ACM CCS 2022. https://arxiv.org/abs/2111.09679 (attack P)
    """

    needs_population: ClassVar[bool] = True

    def score(
        self, target: Observations, shadows: ShadowOutputs | None, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Return the shares, multiples of one over the population's size, the mean over queries; see `Attack.score`.

        Raises:
            ValueError: without a population.
        """
        if target.population is None or len(target.population.labels) == 0:
            raise UserError("population needs non-members other than the examples under attack, got none")
        return {"": 1 - share_below(target.losses(), target.population.losses())}
